"""Through fastwrap, a real engine answers what it answers directly, and the block tells what is true of it."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from engines import blocks, deviations, requests, wire

if TYPE_CHECKING:
    from engines.processes import Site
    from engines.wire import Answer, Json, Shape

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

GAUGES_WITHIN_S = 10.0
SAMPLED_WITHIN_S = 60.0
RECOGNISED_WITHIN_S = 20.0
TRIES = 20


def both(site: Site, path: str, body: Json | str | None, way: str = "native") -> tuple[Answer, Answer]:
    """Ask directly and through fastwrap; once more before, so that the engine's caches are alike."""
    wire.ask(site.direct, path, body)
    return wire.ask(site.direct, path, body), wire.ask(site.through[way], path, body)


def same_headers(direct: Answer, through: Answer) -> None:
    """All of the engine's headers are there; the server before fastwrap may name itself where the engine does not."""
    added = through.kept_headers.keys() - direct.kept_headers.keys()
    assert added <= {"server"}
    assert {name: value for name, value in through.kept_headers.items() if name not in added} == direct.kept_headers


def same_answer(site: Site, path: str, body: Json, way: str = "native") -> tuple[Json, Json]:
    """Compare answers that are no streams, byte for byte but for what no two have alike; return both's JSON."""
    direct, through = both(site, path, body, way)
    assert direct.status == through.status == 200, (direct.body, through.body)
    rest, block = wire.cut_block(through.body)
    assert block is not None, through.body
    assert wire.steady(rest) == wire.steady(direct.body)
    same_headers(direct, through)
    value = wire.loads(through.body)
    blocks.check(block, site, value.get("usage") or {}, through.wall_ms)
    return wire.loads(direct.body), value


def shapes(site: Site, body: Json, events: list[str]) -> dict[int, Shape]:
    return wire.shapes(deviations.without(site, body, [wire.data(event) for event in events]))


def same_stream(site: Site, path: str, body: Json, way: str = "native") -> tuple[list[str], Json]:
    """Compare streams event for event; return the events that came through fastwrap, and the block, cut out of them."""
    direct, through = both(site, path, body, way)
    assert direct.status == through.status == 200, (direct.body, through.body)
    same_headers(direct, through)
    events, block, at = wire.answer_events(through)
    ours, theirs = ([wire.steady(event) for event in some] for some in (events, direct.events))
    if site.kind.merges or body.get("n", 1) > 1:  # choices take turns as they like
        assert shapes(site, body, ours) == shapes(site, body, theirs)
    else:
        assert ours == theirs
    assert at == blocks.place(events)
    assert block["chunks"] == wire.chunks_with_text(events)
    return events, block


def refused(site: Site, path: str, body: Json) -> None:
    """Skip what the engine cannot do: after its refusal came through as it is."""
    direct, through = both(site, path, body)
    assert direct.status >= 400, f"{site.kind.name} can do this: {direct.body}"
    assert (through.status, through.body) == (direct.status, direct.body)
    pytest.skip(f"{site.kind.name} answers {direct.status}, through fastwrap too")


def test_is_recognised(site: Site, way: str) -> None:
    def ready() -> Json | None:
        answer = wire.ask(site.through[way], "/-/ready")
        said = wire.loads(answer.body)
        return said if answer.status == 200 and said["backend"] != "openai" else None

    assert site.engine.until(ready, RECOGNISED_WITHIN_S)["backend"] == site.kind.name


@pytest.mark.parametrize("path", ["/v1/models", "/no/such/path"])
def test_what_is_not_measured_passes(site: Site, way: str, path: str) -> None:
    direct, through = both(site, path, None, way)
    assert through.status == direct.status
    assert wire.steady(through.body) == wire.steady(direct.body)
    same_headers(direct, through)


def test_chat(site: Site, way: str) -> None:
    _, through = same_answer(site, requests.CHAT, requests.chat(site), way)
    assert through["choices"][0]["message"]["content"]
    assert through["usage"]["completion_tokens"] == requests.TOKENS


def test_chat_stream(site: Site, way: str) -> None:
    """The client did not ask for usage: it sees what the engine says without, and the block has it all the same."""
    usage = wire.loads(wire.ask(site.direct, requests.CHAT, requests.chat(site)).body)["usage"]
    events, block = same_stream(site, requests.CHAT, requests.chat(site, stream=True), way)
    blocks.check_stream(block, site, usage)
    if site.kind.name != "transformers":  # which sends it always
        assert not any('"usage":{' in event for event in events)


def test_chat_stream_with_usage(site: Site, way: str) -> None:
    options = {"include_usage": True}
    events, block = same_stream(site, requests.CHAT, requests.chat(site, stream=True, stream_options=options), way)
    usages = [usage for event in events if (usage := (wire.data(event) or {}).get("usage"))]
    assert len(usages) == 1
    blocks.check_stream(block, site, usages[0])


def test_completions(site: Site) -> None:
    _, through = same_answer(site, requests.COMPLETIONS, requests.completions(site))
    assert through["choices"][0]["text"]


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["", "usage"])
def test_completions_stream(site: Site, options: Json) -> None:
    usage = wire.loads(wire.ask(site.direct, requests.COMPLETIONS, requests.completions(site)).body)["usage"]
    _, block = same_stream(site, requests.COMPLETIONS, requests.completions(site, stream=True, **options))
    blocks.check_stream(block, site, usage)


def test_embeddings(site: Site) -> None:
    body = {"model": site.model, "input": "hello world"}
    if "embeddings" not in site.kind.has:
        refused(site, requests.EMBEDDINGS, body)
    _, through = same_answer(site, requests.EMBEDDINGS, body)
    assert through["data"][0]["embedding"]


@pytest.mark.parametrize("choice", ["auto", requests.FORCED, "required"], ids=["auto", "forced", "required"])
def test_tools(site: Site, choice: Any, near: str) -> None:
    body = requests.tools(site, tool_choice=choice)
    if "tools" not in site.kind.has:
        refused(site, requests.CHAT, body)
    same_answer(site, requests.CHAT, body, near)
    same_stream(site, requests.CHAT, body | {"stream": True}, near)


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["", "usage"])
def test_two_choices(site: Site, options: Json, near: str) -> None:
    if "many" not in site.kind.has:
        pytest.skip(f"{site.kind.name} knows no `n`")
    body = requests.chat(site, n=2, temperature=site.kind.many_temperature)
    _, through = same_answer(site, requests.CHAT, body, near)
    assert [choice["index"] for choice in through["choices"]] == [0, 1]
    events, block = same_stream(site, requests.CHAT, body | {"stream": True, **options}, near)
    blocks.check_choices(block)
    assert block["completion_tokens"] == 2 * requests.TOKENS
    assert any("usage" in (wire.data(event) or {}) for event in events) == bool(options)


@pytest.mark.parametrize("path", [requests.RESPONSES, requests.MESSAGES])
def test_typed_events(site: Site, path: str, near: str) -> None:
    """`/v1/responses` and `/v1/messages`, as a stream and not."""
    body = requests.typed(site, path)
    if path == requests.MESSAGES and "messages" not in site.kind.has:
        refused(site, path, body)
    _, whole = same_answer(site, path, body, near)
    events, block = same_stream(site, path, body | {"stream": True}, near)
    blocks.check_stream(block, site, whole["usage"])
    assert '"usage"' in "".join(events)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"model": "no-such-model"}, id="model"),
        pytest.param({"model": "no-such-model", "stream": True}, id="model-stream"),
        pytest.param({"messages": None}, id="messages"),
        pytest.param({"temperature": "warm", "stream": True}, id="temperature"),
        pytest.param('{"model": ', id="json"),
    ],
)
def test_errors(site: Site, way: str, body: Json | str) -> None:
    """Some engines answer for any model: then that answer is compared."""
    direct, through = both(site, requests.CHAT, body if isinstance(body, str) else requests.chat(site, **body), way)
    assert through.status == direct.status, through.body
    same_headers(direct, through)
    if direct.headers["content-type"].startswith("text/event-stream"):
        ours, theirs = (
            wire.shapes([wire.data(wire.steady(event)) for event in events])
            for events in (wire.answer_events(through)[0], direct.events)
        )
        assert ours == theirs
    else:
        rest, block = wire.cut_block(through.body)
        assert wire.steady(rest) == wire.steady(direct.body)
        assert (block is None) == (direct.status >= 400)


#: Where an engine tells of a request itself, and under which names the block has it.
OWN_NUMBERS = {
    "llamacpp": (
        "timings",
        {"prompt_ms": "prefill_ms", "predicted_ms": "generation_ms", "predicted_per_token_ms": "tpot_ms"},
    ),
    "vllm": (
        "metrics",
        {
            "time_to_first_token_ms": "ttft_ms",
            "queue_time_ms": "queue_ms",
            "generation_time_ms": "generation_ms",
            "mean_itl_ms": "tpot_ms",
        },
    ),
}


#: What the block has of an engine's gauges.
GAUGES = ("kv_cache_usage", "running", "waiting", "gauge_samples")


def own_numbers(site: Site, way: str) -> tuple[Json, Json]:
    """Return the block of a long stream, and what the engine said in it under the block's names."""
    body = requests.chat(site, stream=True, stream_options={"include_usage": True}, ignore_eos=True)
    body |= {"max_tokens": requests.MANY[site.kind.name]}
    events, block, _ = wire.answer_events(wire.ask(site.through[way], requests.CHAT, body))
    member, names = OWN_NUMBERS[site.kind.name]
    own = [found for event in events if (found := (wire.data(event) or {}).get(member))]
    assert len(own) == 1, "left in its place"
    return block, {ours: own[0][theirs] for theirs, ours in names.items()}


def test_what_the_engine_says_of_itself(site: Site, way: str) -> None:
    unasked = wire.answer_events(wire.ask(site.through[way], requests.CHAT, requests.chat(site, stream=True)))[1]
    said = set(unasked["engine"] or ()).difference(GAUGES)
    if site.kind.name not in OWN_NUMBERS:
        assert not said
        assert site.kind.gauges or unasked["unavailable"]["engine"] == "not_reported"
        return
    block, own = own_numbers(site, way)
    assert said == set(block["engine"]).difference(GAUGES)
    assert {name: block["engine"][name] for name in own} == pytest.approx(own, abs=blocks.ROUNDING_MS)
    assert own["generation_ms"] <= block["latency_ms"]
    if "ttft_ms" in own:  # without its queue, and without the way there and back
        assert own["ttft_ms"] < block["ttft_ms"]


def test_gauges_and_memory(site: Site, way: str) -> None:
    """As soon as they were sampled: the first block may come before."""
    body = requests.chat(site, stream=True)

    def sampled() -> Json | None:
        block = wire.answer_events(wire.ask(site.through[way], requests.CHAT, body))[1]
        known = {name for name in GAUGES[:3] if (block["engine"] or {}).get(name)}
        return block if known == site.kind.gauges and block["host_memory"] else None

    block = site.engine.until(sampled, SAMPLED_WITHIN_S)
    for name in GAUGES[:3]:
        assert (name in site.kind.gauges) != (f"engine.{name}" in block["unavailable"])
    for name in site.kind.gauges:
        gauge = block["engine"][name]
        assert gauge["peak"] >= max(gauge["start"], gauge["end"]) >= 0
    if "kv_cache_usage" in site.kind.gauges:
        assert block["engine"]["kv_cache_usage"]["peak"] <= 1
    memory = block["host_memory"]
    assert memory["rss_peak_mb"] >= max(memory["rss_start_mb"], memory["rss_end_mb"]) > 10
    assert memory["processes"] >= 1


def test_pace_is_the_engines(site: Site, way: str) -> None:
    """In one of several tries, for on a busy machine an engine sends many tokens at once."""
    if site.kind.name not in OWN_NUMBERS:
        pytest.skip(f"{site.kind.name} does not tell its pace")
    ratios: list[float] = []
    while not any(1 / 3 < ratio < 3 for ratio in ratios):
        block, own = own_numbers(site, way)
        ratios.append((block["tpot_ms"] or 0.0) / own["tpot_ms"])
        assert len(ratios) < TRIES, ratios


def number(site: Site, name: str) -> float:
    """Read one of the engine's own numbers."""
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", wire.ask(site.direct, "/metrics").body, re.MULTILINE)
    return float(found[1]) if found else 0.0


def cancelled(site: Site, way: str) -> float:
    """Count the requests whose client left, as fastwrap has it."""
    lines = wire.ask(site.through[way], "/-/metrics").body.split("\n")
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if 'outcome="cancelled"' in line)


def test_a_client_that_leaves_stops_the_engine(site: Site, way: str) -> None:
    before = cancelled(site, way)
    generated = number(site, site.kind.generated) if site.kind.generated else 0
    body = requests.endless(site)
    connection = wire.connect(site.through[way])
    try:
        path = wire.target(site.through[way], requests.CHAT)
        connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        assert response.readline().startswith(b"data:")
        gauge = site.kind.running
        if gauge:
            site.engine.until(lambda: number(site, gauge) > 0 or None, GAUGES_WITHIN_S)
        response.close()
    finally:
        connection.close()
    site.engine.until(lambda: cancelled(site, way) == before + 1 or None, GAUGES_WITHIN_S)
    if gauge:
        site.engine.until(lambda: number(site, gauge) == 0 or None, GAUGES_WITHIN_S)
    if site.kind.generated:  # it was stopped, it did not come to its end
        assert number(site, site.kind.generated) - generated < body["max_tokens"] * body.get("n", 1)
    assert wire.ask(site.through[way], requests.CHAT, requests.chat(site)).status == 200
