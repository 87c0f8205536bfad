"""An engine is recognised by what it answers, from recorded answers; and what costs it something is never asked."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fastwrap import _native
from fastwrap.engine import Engine
from fastwrap.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAMS = Path(__file__).resolve().parents[1] / "streams"
ENGINES = ("llamacpp", "ollama", "sglang", "transformers", "vllm")
RECOGNISED_WITHIN_S = 20.0
POLL_S = 0.02
#: The recordings hold the first 500 characters only.
WHOLE = {"sglang": {"GET /model_info": '{"model_path":"tiny","is_generation":true}'}}


class RecordedEngine(http.server.ThreadingHTTPServer):
    """Answers the recorded GETs of one engine; its first `loading` answers are 503."""

    def __init__(self, name: str, loading: int = 0) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, Any] = json.loads((STREAMS / name / "routes.json").read_text())
        for route, body in WHOLE.get(name, {}).items():
            self.routes[route]["body"] = body
        self.loading = loading
        self.asked: list[str] = []


class _Handler(http.server.BaseHTTPRequestHandler):
    server: RecordedEngine

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        absent = {"status": 404, "headers": {}, "body": ""}
        route = self.server.routes.get(f"GET {self.path}", absent)
        if len(self.server.asked) <= self.server.loading:
            route = {"status": 503, "headers": {}, "body": ""}
        body = route["body"].encode()
        self.send_response_only(route["status"])
        for name, value in route["headers"].items():
            if name not in ("content-length", "connection", "keep-alive", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def recorded(name: str, loading: int = 0) -> Iterator[RecordedEngine]:
    with RecordedEngine(name, loading) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def recognised(server: RecordedEngine, within_s: float = RECOGNISED_WITHIN_S) -> str:
    """Return what it is recognised as, once it is."""
    settings = Settings(upstream=f"http://127.0.0.1:{server.server_address[1]}")
    meter = _native.Meter(
        enrich="body",
        stall_ns=1,
        json_as_stream=False,
        max_body_bytes=1,
        max_header_bytes=1,
        max_inflight=0,
        counters_directory=None,
    )

    async def ask() -> str:
        engine = Engine(settings, meter)
        engine.start()
        try:
            while (state := await engine.state()).backend == "openai":  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(POLL_S)
            return state.backend
        finally:
            await engine.stop()

    async def ask_in_time() -> str:
        return await asyncio.wait_for(ask(), within_s)

    return asyncio.run(ask_in_time())


@pytest.mark.parametrize("name", ENGINES)
def test_is_recognised(name: str) -> None:
    with recorded(name) as server:
        assert recognised(server) == name


@pytest.mark.parametrize("name", ENGINES)
def test_is_recognised_once_it_has_loaded(name: str) -> None:
    """What stands before an engine answers 503 while it loads: nothing is concluded from that."""
    with recorded(name, loading=2) as server:
        assert recognised(server) == name


def test_sglang_generates_no_token_to_be_recognised() -> None:
    """Its `/health` generates one, and takes a second or more."""
    with recorded("sglang") as server:
        assert recognised(server) == "sglang"
        assert "/health" not in server.asked
