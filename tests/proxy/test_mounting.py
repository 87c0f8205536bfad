"""The application in other servers and applications than its own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import uvicorn

from fastwrap.app import Application
from fastwrap.settings import Settings
from proxy.blocks import without_blocks
from proxy.client import ask, post, stream, stream_open
from proxy.processes import DEADLINE_S, until
from proxy.scripted import Endless, ScriptedEngine, Turn, delta

if TYPE_CHECKING:
    from fastwrap.app import Scope, Send
    from fastwrap.departures import Message, Receive


class Mounted:
    """An application that hands on what lies below a path, as Starlette and FastAPI do."""

    def __init__(self, inner: Application) -> None:
        self.inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # a mounted application sees no lifespan
            return
        assert scope["path"].startswith("/llm")
        await self.inner({**scope, "root_path": scope.get("root_path", "") + "/llm"}, receive, send)


@contextlib.contextmanager
def uvicorn_serves(app: Any, lifespan: Literal["on", "off"]) -> Iterator[str]:
    config = uvicorn.Config(app, port=0, lifespan=lifespan, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started, "uvicorn")
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


@pytest.fixture
def app(relay: str, engine: ScriptedEngine) -> Application:
    return Application(Settings(upstream=engine.url, relay=relay, gpu="off", backend="vllm"))  # type: ignore[arg-type]


def test_it_wants_its_keys_there_too(relay: str, engine: ScriptedEngine, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("sk-first-6f1d0c")
    settings = Settings(upstream=engine.url, relay=relay, gpu="off", backend="vllm", api_key_file=str(keys))  # type: ignore[arg-type]
    with uvicorn_serves(Mounted(Application(settings)), "off") as url:
        assert ask(url, "GET", "/llm/-/healthy").status == 200
        assert ask(url, "GET", "/llm/-/metrics").status == 401
        assert ask(url, "POST", "/llm/v1/x").status == 401
        assert engine.requests == []
        assert post(url, target="/llm/v1/chat/completions", headers=[("x-api-key", "sk-first-6f1d0c")]).status == 200


def test_under_uvicorn(app: Application, engine: ScriptedEngine) -> None:
    with uvicorn_serves(app, "on") as url:
        assert ask(url, "GET", "/-/healthy").status == 200
        assert post(url).json["performance"]["outcome"] == "complete"
        direct, through = stream(engine.url), stream(url)
        assert len(without_blocks(through.body)[1]) == 1
        assert without_blocks(through.body)[0] == direct.body
        assert ask(url, "GET", "/a%2Fb?c=%20").status == 404
        assert engine.requests[-1].target == "/a%2Fb?c=%20"


def test_mounted_below_a_path(app: Application, engine: ScriptedEngine) -> None:
    with uvicorn_serves(Mounted(app), "off") as url:
        assert ask(url, "GET", "/llm/-/healthy").status == 200
        assert post(url, target="/llm/v1/chat/completions").json["performance"]["outcome"] == "complete"
        assert engine.requests[-1].target == "/v1/chat/completions"
        ask(url, "GET", "/llm")
        ask(url, "GET", "/llm/llm/x?y")
        assert [request.target for request in engine.requests[1:]] == ["/", "/llm/x?y"]


def test_a_departure_under_uvicorn(app: Application, engine: ScriptedEngine) -> None:
    engine.use(endless := Endless())
    with uvicorn_serves(app, "on") as url:
        call = stream_open(url)
        call.read_until(b'"a"')
        call.leave()
        assert endless.closed.wait(DEADLINE_S)


def test_a_truncated_answer_under_uvicorn(app: Application, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a")[:20])
        turn.close()

    engine.use(answer)
    with uvicorn_serves(app, "on") as url:
        assert not stream(url).whole


async def call_app(app: Application, messages: list[Message], headers: list[tuple[bytes, bytes]]) -> list[Message]:
    """Call the application as a server does that gives these messages."""
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "query_string": b"",
        "headers": [(b"host", b"a"), *headers],
    }

    async def receive() -> Message:
        await asyncio.sleep(0)
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await asyncio.wait_for(app(scope, receive, send), DEADLINE_S)
    finally:
        await app.stop()
    return sent


@pytest.mark.parametrize("body", [[b"{"], [b'{"a":', b"1"], []])
def test_a_client_that_leaves_while_it_uploads_leaves_no_coroutine(app: Application, body: list[bytes]) -> None:
    parts: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in body]
    sent = asyncio.run(call_app(app, [*parts, {"type": "http.disconnect"}], []))
    assert [message.get("status") for message in sent] == [400, None]  # which nobody reads
    assert app.sidecar.meter.in_flight() == 0


@pytest.mark.parametrize("parts", [[b"{}"], [b"{", b"}"]])
def test_a_body_as_long_as_was_announced_is_whole(app: Application, parts: list[bytes]) -> None:
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    sent = asyncio.run(call_app(app, messages, [(b"content-length", b"2")]))
    assert sent[0]["status"] == 200
    assert not messages


def test_a_refused_request_needs_no_body(app: Application) -> None:
    sent = asyncio.run(call_app(app, [], [(b"content-length", b"99999999999")]))
    assert [message.get("status") for message in sent] == [413, None]


def test_whoever_gives_up_on_the_application_closes_the_engines_connection(
    app: Application, engine: ScriptedEngine
) -> None:
    """As a timeout of a middleware's does, while the answer is awaited."""
    closed = threading.Event()

    def answer(turn: Turn) -> None:
        asyncio.run_coroutine_threadsafe(give_up(), loops[0]).result(DEADLINE_S)
        turn.wait_closed()
        closed.set()

    async def give_up() -> None:
        calls[0].cancel()

    async def call() -> None:
        loops.append(asyncio.get_running_loop())
        parts: list[Message] = [{"type": "http.request", "body": b"{}"}]
        calls.append(asyncio.ensure_future(call_app(app, parts, [])))
        with pytest.raises(asyncio.CancelledError):
            await calls[0]
        assert app.sidecar.meter.in_flight() == 0

    loops: list[asyncio.AbstractEventLoop] = []
    calls: list[asyncio.Future[list[Message]]] = []
    engine.use(answer)
    asyncio.run(call())
    assert closed.wait(DEADLINE_S)


def test_the_end_of_the_application_ends_what_is_in_flight(app: Application, engine: ScriptedEngine) -> None:
    async def call() -> None:
        waits = asyncio.Event()
        loop = asyncio.get_running_loop()

        def answer(turn: Turn) -> None:
            loop.call_soon_threadsafe(waits.set)
            turn.wait_closed()

        engine.use(answer)
        parts: list[Message] = [{"type": "http.request", "body": b"{}"}]
        answered = asyncio.ensure_future(call_app(app, parts, []))
        await waits.wait()
        await app.stop()
        assert (await answered)[0]["status"] in {500, 502}

    asyncio.run(asyncio.wait_for(call(), DEADLINE_S))


def test_a_websocket_is_refused(app: Application) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app({"type": "websocket"}, receive, send))
    assert [message["type"] for message in sent] == ["websocket.close"]
