"""With --measure-json-as-stream a client that asks for JSON gets the engine's JSON, measured as the stream that it was."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from proxy.blocks import block_of, without_blocks
from proxy.client import Answer, ask
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.recorded import FOLDERS, Recorded, cases
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, chat_events, delta, event, usage

FLAG = "--measure-json-as-stream"
JSON = [("content-type", "application/json")]
CHAT = "/v1/chat/completions"
#: Engines whose JSON can be made of their streams, and what was recorded of them both ways.
ASSEMBLED = ("llamacpp", "ollama", "transformers", "vllm", "vllm-options", "vllm-tools")
PAIRS = [
    (folder, name)
    for folder in ASSEMBLED
    for name in ("chat", "completions", "chat-n2", "completions-n2")
    if name in cases(folder) and (folder, name.partition("-")[2]) not in {("llamacpp", "n2")}
]
#: Times and ids differ from one recording to the next; llama.cpp found its first prompt in no cache.
VARYING = re.compile(
    rb'("(?:id|created|cached_tokens|[a-z_]+_ms|[a-z_]+_per_second|cache_n|prompt_n)"):("[^"]*"|[-+.e0-9]+)'
)


def steady(body: bytes) -> bytes:
    return VARYING.sub(rb"\1:0", body)


def send(url: str, body: Any, path: str = CHAT, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ask(url, "POST", path, [*JSON, *((name.replace("_", "-"), value) for name, value in headers.items())], data)


@pytest.fixture
def assembling(served: Serve, engine: ScriptedEngine) -> Proxy:
    """`fastwrap serve` before a scripted vLLM, asking it for streams."""
    return served(engine.url, "--backend", "vllm", FLAG)


def request(**members: Any) -> dict[str, Any]:
    return {"model": "tiny", "messages": [], **members}


@pytest.mark.parametrize(("folder", "name"), PAIRS)
def test_the_json_is_the_engines(served: Serve, engine: ScriptedEngine, folder: str, name: str) -> None:
    case = cases(folder)[name]
    engine.use(Recorded(folder, case))
    through = send(served(engine.url, "--backend", FOLDERS[folder], FLAG).url, case.request, case.path)
    body, blocks = without_blocks(through.body)

    assert engine.request.json["stream"] is True
    assert engine.request.asks_for_usage == (folder != "transformers")
    assert through.status == 200
    assert steady(body) == steady(case.body)
    assert through.header("content-length") == str(len(through.body))
    assert through.header("content-type") == case.answer.header("content-type")
    names = {header for header, _ in through.headers}
    assert not names & {"cache-control", "x-accel-buffering", "transfer-encoding"}
    block = blocks[0]
    assert block["measured_as"] == "stream"
    assert block["ttft_ms"] is not None
    assert block["chunks"] > 1
    assert block["outcome"] == "complete"
    assert block["completion_tokens"] == through.json["usage"]["completion_tokens"]
