"""With --measure-json-as-stream a real engine's JSON is what it answers directly, and has the times of its stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engines import blocks, requests, wire
from engines.test_real_engines import same_answer

if TYPE_CHECKING:
    from engines.processes import Site
    from engines.wire import Json

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

#: Engines whose streams tell all that their JSON does.
ASSEMBLED = ("vllm", "ollama")
#: With one choice each; the random model writes all sorts of characters, and breaks some of them.
SETS: tuple[Json, ...] = (
    {},
    {"max_tokens": 1},
    {"max_tokens": 2},
    {"stream": False, "temperature": 1, "seed": 7},
    {"stream": None, "temperature": 1.5, "seed": 11, "max_tokens": 60},
    {"messages": [{"role": "user", "content": 'é "中文" 😀 \\ \n <b>&'}]},
)


def same(site: Site, way: str, path: str, body: Json) -> Json:
    """Compare with the direct answer, byte for byte but for what no two have alike; return the block."""
    _, through = same_answer(site, path, body, way)
    block: Json = through["performance"]
    choice: Json = through["choices"][0]
    assert block["measured_as"] == ("stream" if site.kind.name in ASSEMBLED else "json")
    if site.kind.name not in ASSEMBLED:
        assert block["unavailable"]["ttft_ms"] == "engine_not_assembled"
    elif not (choice.get("text") or choice.get("message", {}).get("content")):
        # The random model may begin with half a character.
        assert block["unavailable"]["ttft_ms"] == "no_text"
    elif block["completion_tokens"] > 1:
        blocks.check_stream(block, site, through["usage"])
    else:
        assert block["unavailable"]["tpot_ms"] == "fewer_than_2_tokens"
        assert block["ttft_ms"] <= block["latency_ms"]
    return block


def recognised(site: Site, way: str) -> None:
    """Wait until fastwrap knows its engine: it asks for no stream before."""

    def known() -> bool | None:
        said = wire.loads(wire.ask(site.through[way], "/-/ready").body)
        return (said["backend"] != "openai") or None

    site.engine.until(known, 20.0)


@pytest.mark.parametrize("members", SETS, ids=str)
def test_chat(site: Site, assembling: str, members: Json) -> None:
    recognised(site, assembling)
    same(site, assembling, requests.CHAT, requests.chat(site, **members))


@pytest.mark.parametrize("members", [one for one in SETS if "messages" not in one], ids=str)
def test_completions(site: Site, assembling: str, members: Json) -> None:
    recognised(site, assembling)
    same(site, assembling, requests.COMPLETIONS, requests.completions(site, **members))


def test_a_stop(site: Site, assembling: str) -> None:
    """The text ends before the stop, in both."""
    recognised(site, assembling)
    direct = wire.loads(wire.ask(site.direct, requests.CHAT, requests.chat(site)).body)
    text: str = direct["choices"][0]["message"]["content"]
    stop = next(text[at] for at in range(len(text) // 2, len(text)) if text[at].isascii() and text[at].isalnum())
    same(site, assembling, requests.CHAT, requests.chat(site, stop=[stop]))


def test_two_choices(site: Site, assembling: str) -> None:
    recognised(site, assembling)
    if site.kind.name != "vllm":
        pytest.skip("its choices are counted apart, or it knows no `n`")
    body = requests.chat(site, n=2, temperature=site.kind.many_temperature)
    _, through = same_answer(site, requests.CHAT, body, assembling)
    assert through["performance"]["measured_as"] == "stream"


@pytest.mark.parametrize("members", [{"logprobs": True}, {"tools": [requests.TOOL]}], ids=["logprobs", "tools"])
def test_what_is_left_alone(site: Site, assembling: str, members: Any) -> None:
    recognised(site, assembling)
    body = requests.chat(site, **members)
    if wire.ask(site.direct, requests.CHAT, body).status != 200:
        pytest.skip(f"{site.kind.name} cannot do this")
    _, through = same_answer(site, requests.CHAT, body, assembling)
    assert through["performance"]["measured_as"] == "json"


@pytest.mark.parametrize("members", [{"model": "no-such-model"}, {"temperature": "warm"}], ids=["model", "temperature"])
def test_errors(site: Site, assembling: str, members: Json) -> None:
    recognised(site, assembling)
    body = requests.chat(site, **members)
    direct, through = (wire.ask(url, requests.CHAT, body) for url in (site.direct, site.through[assembling]))
    assert through.status == direct.status, through.body
    assert wire.steady(wire.cut_block(through.body)[0]) == wire.steady(direct.body)
