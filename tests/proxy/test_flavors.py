"""The simulated engine, in every flavour, direct and through fastwrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fastwrap.simulation import FLAVORS
from proxy.blocks import without_blocks
from proxy.client import Answer, ask, post
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.recorded import told

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", CHAT),
    "chat-n2": ("/v1/chat/completions", {**CHAT, "n": 2}),
    "chat-stream": ("/v1/chat/completions", {**CHAT, "stream": True}),
    "chat-stream-n2": ("/v1/chat/completions", {**CHAT, "stream": True, "n": 2}),
    "chat-stream-usage": ("/v1/chat/completions", {**CHAT, "stream": True, "stream_options": {"include_usage": True}}),
    "completions": ("/v1/completions", {"model": "tiny", "prompt": "hi"}),
    "completions-stream": ("/v1/completions", {"model": "tiny", "prompt": "hi", "stream": True}),
    "embeddings": ("/v1/embeddings", {"model": "tiny", "input": "hi"}),
    "bad": ("/v1/chat/completions", {"model": "tiny", "messages": "none"}),
}
#: These differ from one answer to the next, also without fastwrap.
VARYING = {"id", "created", "timings", "metrics", "meta_info", "x-request-id"}


def steady(value: Any) -> Any:
    """The value without what differs from answer to answer.

    OpenAI's own service says "usage": null in every chunk where usage was asked for, and fastwrap asks: that is left.
    """
    if isinstance(value, dict):
        members = [(name, inner) for name, inner in value.items() if (name, inner) != ("usage", None)]
        return {name: steady(inner) for name, inner in members if name not in VARYING}
    return [steady(inner) for inner in value] if isinstance(value, list) else value


def said(answer: Answer) -> Any:
    return steady(answer.events or (answer.json if answer.body.startswith((b"{", b"[")) else answer.body))


@pytest.fixture(params=FLAVORS)
def flavored(request: pytest.FixtureRequest, served: Serve, simulated: Callable[..., str]) -> tuple[str, Proxy]:
    """An engine's URL, and fastwrap before it: which engine it is, fastwrap finds out."""
    url = simulated("--flavor", request.param, "--tokens", "12", "--seed", "3")
    proxy = served(url)
    until(lambda: ask(proxy.url, "GET", "/-/ready").json["backend"] == request.param, f"recognised {request.param}")
    return url, proxy


@pytest.mark.parametrize("name", REQUESTS)
def test_it_is_the_same(flavored: tuple[str, Proxy], name: str) -> None:
    url, proxy = flavored
    target, body = REQUESTS[name]
    direct, through = post(url, body, target), post(proxy.url, body, target)
    stripped, blocks = without_blocks(through.body)
    assert through.status == direct.status
    if "-n2" in name and direct.events:
        assert told(through) == told(direct)  # in which order choices come is up to the engine
    else:
        assert said(through.without(stripped)) == said(direct)
    assert len(blocks) == (direct.status == 200)
    for block in blocks:
        assert block["outcome"] == "complete"
        assert block["prompt_tokens"]
        if name.startswith("chat-stream") and "n2" not in name:
            assert block["completion_tokens"] == 12
            assert block["ttft_ms"] > 0
            assert block["backend"] == ask(proxy.url, "GET", "/-/ready").json["backend"]


def test_other_routes_are_the_engines(flavored: tuple[str, Proxy]) -> None:
    url, proxy = flavored
    for target in ("/v1/models", "/health", "/no/such/route"):
        direct, through = ask(url, "GET", target), ask(proxy.url, "GET", target)
        assert through.status == direct.status
        assert said(through) == said(direct)


def test_delays_are_seen(served: Serve, simulated: Callable[..., str]) -> None:
    url = simulated("--ttft-ms", "60", "--itl-ms", "20", "--tokens", "8")
    _, blocks = without_blocks(post(served(url, "--backend", "vllm").url, {**CHAT, "stream": True}).body)
    assert 60 <= blocks[0]["ttft_ms"] < 200
    assert 10 <= blocks[0]["tpot_ms"] < 60  # a busy machine may hold up the first chunk more than the last
