"""What Python costs on a request's way under Granian: the ASGI application over the native relay to a real engine.

`pytest benches` runs each once and asserts its answer; `pytest benches --benchmark-enable` times them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from fastwrap import metrics
from fastwrap.app import Application
from fastwrap.settings import Settings
from proxy.processes import Process

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

_CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "measure " * 110}]}
_TOKENS = 16


@pytest.fixture(scope="module")
def engine() -> Iterator[Process]:
    process = Process("engine", "--tokens", str(_TOKENS))
    yield process
    process.stop()


class Client:
    """Asks an application as an ASGI server does, on an event loop that is idle meanwhile."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self._loop = uvloop.new_event_loop()

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        return self._loop.run_until_complete(self._ask(method, path, body))

    def close(self) -> None:
        self._loop.run_until_complete(self.application.stop())
        self._loop.close()

    async def _ask(self, method: str, path: str, body: bytes) -> bytes:
        pieces: list[bytes] = []
        unread = [{"type": "http.request", "body": body, "more_body": False}]
        gone: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

        async def receive() -> Any:
            return unread.pop() if unread else await gone

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                pieces.append(message["body"])
            else:
                assert message["status"] == 200

        length = (b"content-length", str(len(body)).encode())
        headers = [(b"host", b"fastwrap"), (b"content-type", b"application/json"), length]
        scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}
        await self.application(scope, receive, send)
        return b"".join(pieces)


@pytest.fixture
def client(engine: Process) -> Iterator[Client]:
    client = Client(Application(Settings(upstream=engine.url, gpu="off", backend="vllm")))
    yield client
    client.close()


def chat(client: Client, **members: object) -> Callable[[], bytes]:
    body = json.dumps({**_CHAT, **members}).encode()
    return lambda: client.ask("POST", "/v1/chat/completions", body)


def test_json(client: Client, benchmark: BenchmarkFixture) -> None:
    ask = chat(client)
    for answer in (ask(), benchmark(ask)):
        performance = json.loads(answer)["performance"]
        assert (performance["outcome"], performance["completion_tokens"]) == ("complete", _TOKENS)


def test_stream_in_one_write(client: Client, benchmark: BenchmarkFixture) -> None:
    ask = chat(client, stream=True)
    for answer in (ask(), benchmark(ask)):
        *events, done, end = answer.decode().split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        assert len(events) == _TOKENS + 1  # the role's
        last = json.loads(events[-1].removeprefix("data: "))
        assert last["performance"]["chunks"] == _TOKENS


def test_large_body(client: Client, benchmark: BenchmarkFixture) -> None:
    ask = chat(client, user="x" * (8 << 20))
    for answer in (ask(), benchmark(ask)):
        assert json.loads(answer)["performance"]["outcome"] == "complete"


def test_scrape(client: Client, benchmark: BenchmarkFixture) -> None:
    chat(client)()

    def scrape() -> bytes:
        return metrics.exposition(client.application.sidecar.meter)[1]

    for text in (client.ask("GET", "/-/metrics"), benchmark(scrape)):
        assert b'fastwrap_requests_total{operation="chat",outcome="complete"} 1.0' in text
