"""The middleware in FastAPI, under uvicorn: real sockets, and the `openai` client."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from fastapi import FastAPI
from fastapi.responses import StreamingResponse

from fastwrap.middleware import PerformanceMiddleware
from fastwrap.passage import App, Receive, Scope, Send
from fastwrap.settings import InProcessSettings
from middleware.asgi import Call, whole, wrapped
from proxy.blocks import Block, block_of, without_blocks
from proxy.client import CHAT, ask, post, stream, stream_open
from proxy.processes import DEADLINE_S, until
from proxy.scripted import DONE, delta, usage
from proxy.test_mounting import uvicorn_serves

EVENTS = [delta("a"), delta("b"), delta(finish="stop"), usage(2), DONE]
COUNTS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER: dict[str, Any] = {
    "id": "c",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}],
    "usage": COUNTS,
}
GAUGES = b"vllm:kv_cache_usage_perc 0.25\nvllm:num_requests_running 2\nvllm:num_requests_waiting 1\n"


def chats() -> FastAPI:
    app = FastAPI()

    @app.post(CHAT)
    async def chat(body: dict[str, Any]) -> Any:
        async def events() -> AsyncIterator[bytes]:
            for event in EVENTS:
                yield event
            if body.get("endless"):
                await asyncio.Event().wait()

        return StreamingResponse(events(), media_type="text/event-stream") if body.get("stream") else ANSWER

    @app.post("/v1/embeddings")
    async def fails() -> None:
        raise LookupError

    @app.get("/metrics")
    async def own() -> str:
        return "the application's own"

    return app


class Server:
    """The application, bare and wrapped, under uvicorn."""

    def __init__(self, app: FastAPI, url: str, bare: str) -> None:
        self.url = url
        self.bare = bare
        self._app = app

    def outcomes(self, operation: str = "chat") -> dict[str, float]:
        lines = ask(self.url, "GET", "/-/metrics").body.decode().split("\n")
        wanted = f'fastwrap_requests_total{{operation="{operation}",outcome="'
        counted = {line.removeprefix(wanted).partition('"')[0]: line for line in lines if line.startswith(wanted)}
        return {outcome: float(line.rpartition(" ")[2]) for outcome, line in counted.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    app = chats()
    app.add_middleware(PerformanceMiddleware, settings=InProcessSettings(gpu="off", engine_samples="off"))
    with contextlib.ExitStack() as stack:
        url, bare = (stack.enter_context(uvicorn_serves(one, "on")) for one in (app, chats()))
        yield Server(app, url, bare)


def test_json(server: Server) -> None:
    direct, through = post(server.bare), post(server.url)
    assert without_blocks(through.body)[0] == direct.body
    assert through.header("content-length") == str(len(through.body))
    assert block_of(through)["completion_tokens"] == 2


def test_a_stream(server: Server) -> None:
    through = stream(server.url)
    assert without_blocks(through.body)[0] == b"".join([*EVENTS[:3], DONE])
    assert block_of(through)["ttft_ms"] > 0
    asked = stream(server.url, stream_options={"include_usage": True})
    assert without_blocks(asked.body)[0] == stream(server.bare).body


def test_the_openai_client(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0) as client:
        message: Any = {"role": "user", "content": "Hello"}
        answer: Any = client.chat.completions.create(model="m", messages=[message])
        assert answer.performance["outcome"] == "complete"
        *_, last = client.chat.completions.create(model="m", messages=[message], stream=True)
        told: Any = last
        assert told.performance["chunks"] == 2


def test_all_else_is_the_applications(server: Server) -> None:
    for method, path in (("GET", "/metrics"), ("GET", "/nothing"), ("POST", "/metrics"), ("POST", CHAT)):
        direct, through = ask(server.bare, method, path, body=b"{"), ask(server.url, method, path, body=b"{")
        assert (through.status, through.body) == (direct.status, direct.body)


def test_an_exception_is_the_applications(server: Server) -> None:
    direct, through = (post(url, target="/v1/embeddings") for url in (server.bare, server.url))
    assert (through.status, through.body) == (direct.status, direct.body) == (500, b"Internal Server Error")
    assert server.outcomes("embeddings")["error"] == 1


def test_a_departure(server: Server) -> None:
    before = server.outcomes()["cancelled"]
    call = stream_open(server.url, endless=True)
    call.read_until(b"DONE")
    call.leave()
    until(lambda: server.outcomes()["cancelled"] == before + 1, "the departure")


def test_its_gauges_and_its_memory_are_sampled() -> None:
    """The engine is this process: its page of metrics is asked for by a call."""
    pages: dict[str, App] = {
        "/metrics": whole(GAUGES, [(b"content-type", b"text/plain")]),
        CHAT: whole(b'{"id":"c"}'),
    }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await pages[scope["path"]](scope, receive, send)

    async def sampled() -> Block:
        block: Block = {"engine": None}
        while not (block["engine"] and block["host_memory"]):
            await (call := Call()).run(through)
            block = block_of(call.answer)
        await through.stop()
        return block

    through = wrapped(app, backend="vllm", engine_samples="auto")
    block = asyncio.run(asyncio.wait_for(sampled(), DEADLINE_S))
    assert block["engine"]["kv_cache_usage"]["end"] == 0.25
    assert (block["engine"]["running"]["peak"], block["engine"]["waiting"]["peak"]) == (2, 1)
    assert block["host_memory"]["rss_end_mb"] > 10
