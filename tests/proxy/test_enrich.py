"""The numbers stand where they were asked for, and nowhere else."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from proxy.blocks import block_of, without_blocks
from proxy.client import Answer, post, stream
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.recorded import Recorded, cases
from proxy.scripted import DONE, ScriptedEngine, delta, event
from schema import check_block

PLACES = ("body", "usage", "header", "server-timing")


def places(answer: Answer) -> dict[str, Any]:
    """Where the block was found, and what it says."""
    found: dict[str, Any] = {}
    for data in answer.events or [answer.json]:
        if isinstance(data, dict):
            if "performance" in data:
                found["body"] = data["performance"]
            if "performance" in (data.get("usage") or {}):
                found["usage"] = data["usage"]["performance"]
    if header := answer.header("x-performance-metrics"):
        found["header"] = json.loads(header)
    if timing := answer.header("server-timing"):
        found["server-timing"] = timing
    return found


@pytest.fixture
def everywhere(served: Serve, engine: ScriptedEngine) -> Proxy:
    return served(engine.url, "--backend", "vllm", "--enrich", ",".join(PLACES))


def test_all_places_in_json(everywhere: Proxy) -> None:
    answer = post(everywhere.url)
    found = places(answer)
    assert found.keys() == set(PLACES)
    assert found["body"] == found["usage"] == found["header"]
    check_block(found["body"])
    names = re.findall(r"(\w+);dur=([0-9.]+)", found["server-timing"])
    assert ("total", f"{found['body']['latency_ms']:g}") in [(name, f"{float(value):g}") for name, value in names]
    assert answer.header("content-length") == str(len(answer.body))


def test_a_stream_has_no_headers_to_put_it_in(everywhere: Proxy) -> None:
    assert places(stream(everywhere.url)).keys() == {"body"}
    asked = stream(everywhere.url, stream_options={"include_usage": True})
    assert "usage" in places(asked)
    assert places(asked).keys() <= {"body", "usage"}


@pytest.mark.parametrize("place", PLACES)
def test_a_request_may_narrow(everywhere: Proxy, engine: ScriptedEngine, place: str) -> None:
    answer = post(everywhere.url, headers=[("X-Fastwrap-Enrich", place)])
    assert places(answer).keys() == {place}
    assert engine.request.header("x-fastwrap-enrich") is None


def test_a_request_may_switch_it_off(everywhere: Proxy, engine: ScriptedEngine) -> None:
    off = [("x-fastwrap-enrich", "none")]
    for ask_one in (post, stream):
        assert places(ask_one(everywhere.url, headers=off)) == {}
        direct = ask_one(engine.url, headers=off)
        assert ask_one(everywhere.url, headers=off).body == direct.body


def test_a_request_may_not_widen(proxy: Proxy) -> None:
    answer = post(proxy.url, headers=[("x-fastwrap-enrich", "body,header,server-timing,usage")])
    assert places(answer).keys() == {"body"}


def test_nonsense_narrows_nothing(proxy: Proxy) -> None:
    assert places(post(proxy.url, headers=[("x-fastwrap-enrich", "everywhere!")])).keys() == {"body"}


def test_none_only_records(served: Serve, engine: ScriptedEngine) -> None:
    proxy = served(engine.url, "--backend", "vllm", "--enrich", "none")
    before = proxy.scrape()
    with proxy.counts("complete", requests=2):
        for ask_one in (post, stream):
            assert ask_one(proxy.url).body == ask_one(engine.url).body
    name = ("fastwrap_tokens_total", "chat", "output")
    assert proxy.scrape()[name] - before[name] == 6
    direct = post(engine.url)
    assert post(proxy.url).header("content-length") == direct.header("content-length")


@pytest.mark.parametrize("member", [{"performance": {"own": 1}}, {"performance": None}])
def test_the_name_is_taken(proxy: Proxy, engine: ScriptedEngine, member: dict[str, Any]) -> None:
    engine.use(lambda turn: turn.json({"id": "c", **member}))
    answer = post(proxy.url)
    assert answer.json["performance"] == member["performance"]
    assert answer.json["fastwrap_performance"]["outcome"] == "complete"
    finish = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **member}
    engine.use(lambda turn: turn.stream([event(finish), DONE]))
    data = stream(proxy.url).events[0]
    assert data["performance"] == member["performance"]
    assert data["fastwrap_performance"]["outcome"] == "complete"


def test_both_names_are_taken(proxy: Proxy, engine: ScriptedEngine) -> None:
    value = {"performance": 1, "fastwrap_performance": 2}
    engine.use(lambda turn: turn.json(value))
    assert post(proxy.url).json == value


@pytest.mark.parametrize(
    ("route", "operation"),
    [("responses", "responses"), ("messages", "messages"), ("chat", "chat"), ("completions", "text_completion")],
)
def test_each_measured_api(proxy: Proxy, engine: ScriptedEngine, route: str, operation: str) -> None:
    for name in (route, f"{route}-stream"):
        case = cases("vllm")[name]
        engine.use(Recorded("vllm", case))
        with proxy.counts("complete", operation):
            answer = post(proxy.url, json.loads(case.request), case.path)
        block = block_of(answer)
        assert (block["completion_tokens"], block["prompt_tokens"]) == (8, 5)
        assert (block["ttft_ms"] is not None) == case.is_stream


def test_the_block_is_on_the_last_event_of_its_api(proxy: Proxy, engine: ScriptedEngine) -> None:
    for name, kind in (("responses-stream", "response.completed"), ("messages-stream", "message_stop")):
        case = cases("vllm")[name]
        engine.use(Recorded("vllm", case))
        answer = post(proxy.url, json.loads(case.request), case.path)
        carrier = [data for data in answer.events if isinstance(data, dict) and "performance" in data]
        assert [data["type"] for data in carrier] == [kind]


def test_embeddings(proxy: Proxy, engine: ScriptedEngine) -> None:
    value = {"object": "list", "data": [{"embedding": [0.1, -1e-05]}], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    engine.use(lambda turn: turn.json(value))
    with proxy.counts("complete", "embeddings"):
        answer = post(proxy.url, {"input": "x"}, "/v1/embeddings")
    block = answer.json.pop("performance")
    assert block["prompt_tokens"] == 7
    assert block["unavailable"]["ttft_ms"] == "not_streamed"
    assert without_blocks(answer.body)[0] == json.dumps(value).encode()


def test_no_event_is_added(proxy: Proxy, engine: ScriptedEngine) -> None:
    events = [delta("", role="assistant"), delta("a"), delta(finish="stop"), DONE]
    engine.use(lambda turn: turn.stream(events))
    assert len(stream(proxy.url).events) == len(events)


def test_a_request_id_is_kept_or_made(proxy: Proxy) -> None:
    assert block_of(post(proxy.url, headers=[("x-request-id", "mine")]))["request_id"] == "mine"
    made = {block_of(post(proxy.url))["request_id"] for _ in range(10)}
    assert len(made) == 10
    assert all(made)
