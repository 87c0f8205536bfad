"""With --measure-json-as-stream a client that asks for JSON gets the engine's JSON, measured as a stream."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from proxy.blocks import block_of, without_blocks
from proxy.client import Answer, Call, ask
from proxy.conftest import Serve
from proxy.processes import DEADLINE_S, Proxy
from proxy.recorded import FOLDERS, Recorded, cases
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta, event, usage

FLAG = "--measure-json-as-stream"
JSON = [("content-type", "application/json")]
CHAT = "/v1/chat/completions"
#: Engines whose JSON can be made of their streams, and what was recorded of them both ways.
ASSEMBLED = ("ollama", "vllm", "vllm-options", "vllm-tools")
PAIRS = [
    (folder, name)
    for folder in ASSEMBLED
    for name in ("chat", "completions", "chat-n2", "completions-n2")
    if name in cases(folder)
]
#: Times and ids differ from one recording to the next.
VARYING = re.compile(rb'("(?:id|created|[a-z_]+_ms|[a-z_]+_per_second)"):("[^"]*"|[-+.e0-9]+)')


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
    assert engine.request.asks_for_usage
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


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b'{"messages" : [ ]}', b'{"messages" : [ ],"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{"stream":  false , "messages":["\xc3\xa9\\u00e9"], "n":1}\n',
            b'{"stream":  true , "messages":["\xc3\xa9\\u00e9"], "n":1,"stream_options":{"include_usage":true}}\n',
        ),
        (
            b'{"stream_options":null,"messages":[],"stream":null, "tools":null,"logprobs":false }',
            b'{"stream_options":{"include_usage":true},"messages":[],"stream":true, "tools":null,"logprobs":false }',
        ),
    ],
)
def test_every_other_byte_of_the_request_is_kept(
    assembling: Proxy, engine: ScriptedEngine, sent: bytes, received: bytes
) -> None:
    answer = send(assembling.url, sent)
    assert engine.request.body == received
    assert answer.json["choices"][0]["message"]["content"] == "abc"


def test_a_large_request_is_asked_for_a_stream_too(assembling: Proxy, engine: ScriptedEngine) -> None:
    answer = send(assembling.url, request(messages=[{"role": "user", "content": "x" * (1 << 20)}]))
    assert engine.request.json["stream"] is True
    assert block_of(answer)["measured_as"] == "stream"


@pytest.mark.parametrize(
    "members",
    [
        {"stream_options": {"include_usage": True}},
        {"stream_options": {}},
        {"logprobs": True},
        {"top_logprobs": 1},
        {"tools": []},
        {"functions": []},
        {"echo": True},
        {"prompt": ["a", "b"]},
        {"prompt": [1, 2]},
        {"best_of": 2},
        {"use_beam_search": True},
        {"prompt_logprobs": 1},
        {"return_token_ids": True},
        {"modalities": ["audio"]},
        {"kv_transfer_params": {}},
        {"of_tomorrow": 1},
        {"stream": 0},
        {"stream": ""},
    ],
    ids=json.dumps,
)
def test_what_a_stream_tells_otherwise_is_left_alone(
    assembling: Proxy, engine: ScriptedEngine, members: dict[str, Any]
) -> None:
    body = json.dumps(request(**members)).encode()
    answer = send(assembling.url, body)
    assert engine.request.body == body
    block = block_of(answer)
    assert (block["measured_as"], block["ttft_ms"]) == ("json", None)
    assert block["unavailable"]["ttft_ms"] == "request_not_assembled"
    assert block["unavailable"]["chunks"] == "not_streamed"


def test_a_member_named_twice_is_left_alone(assembling: Proxy, engine: ScriptedEngine) -> None:
    body = b'{"stream":null,"messages":[],"stream":false}'
    send(assembling.url, body)
    assert engine.request.body == body


@pytest.mark.parametrize("backend", ["sglang", "tgi", "transformers", "llamacpp", "openai"])
def test_engines_whose_streams_tell_less_are_left_alone(served: Serve, engine: ScriptedEngine, backend: str) -> None:
    answer = send(served(engine.url, "--backend", backend, FLAG).url, request())
    assert "stream" not in engine.request.json
    assert block_of(answer)["unavailable"]["ttft_ms"] == "engine_not_assembled"


@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/responses", "/v1/messages"])
def test_other_routes_are_left_alone(assembling: Proxy, engine: ScriptedEngine, path: str) -> None:
    answer = send(assembling.url, request(), path)
    assert engine.request.json == request()
    assert block_of(answer)["unavailable"]["ttft_ms"] == "not_streamed"


def test_without_the_flag_nothing_changes(proxy: Proxy, engine: ScriptedEngine) -> None:
    block = block_of(send(proxy.url, request()))
    assert engine.request.json == request()
    assert (block["measured_as"], block["unavailable"]["ttft_ms"]) == ("json", "not_streamed")


def test_streams_stay_streams(assembling: Proxy, engine: ScriptedEngine) -> None:
    answer = send(assembling.url, request(stream=True))
    assert answer.header("content-type") == "text/event-stream"
    assert answer.events[-1] == "[DONE]"
    assert block_of(answer)["measured_as"] == "stream"
    assert engine.request.asks_for_usage


def test_an_engine_that_answers_json_all_the_same(assembling: Proxy, engine: ScriptedEngine) -> None:
    message = {"role": "assistant", "content": "abc"}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    engine.use(lambda turn: turn.json(body))
    answer = send(assembling.url, request())
    assert without_blocks(answer.body)[0] == json.dumps(body).encode()
    block = block_of(answer)
    assert (block["measured_as"], block["unavailable"]["ttft_ms"]) == ("json", "not_streamed")


def stream(*pieces: bytes, headers: Any = ()) -> Any:
    return lambda turn: turn.stream(pieces, headers)


def test_texts_are_the_engines_own_bytes(assembling: Proxy, engine: ScriptedEngine) -> None:
    parts = (rb"\ud83d", rb"\ude00\u003c", "é中".encode(), rb"\n\"", b"")
    said = [b'data: {"choices":[{"delta":{"content":"%b"},"index":0}]}\n\n' % part for part in parts]
    engine.use(stream(delta("", role="assistant"), *said, delta(finish="stop"), DONE))
    body = send(assembling.url, request()).body
    assert b'"content":"%b"' % b"".join(parts) in body


def test_reasoning_without_an_answer(assembling: Proxy, engine: ScriptedEngine) -> None:
    """What vLLM's parsers call no content is null in its JSON, though its stream begins with an empty one."""
    begin, thoughts = delta("", role="assistant"), [delta(reasoning=part) for part in ("h", "m")]
    engine.use(stream(begin, *thoughts, delta(finish="length"), usage(2), DONE))
    answer = send(assembling.url, request())
    message = answer.json["choices"][0]["message"]
    assert (message["content"], message["reasoning"]) == (None, "hm")
    block = block_of(answer)
    assert block["ttft_ms"] is not None
    assert block["first_answer_ms"] is None


@pytest.mark.parametrize(
    "members",
    [
        {"system_fingerprint": "vllm-0.33.0-x"},
        {"usage": {"completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 0}}},
    ],
    ids=["another version", "a reasoning parser"],
)
def test_an_engine_that_turns_out_to_be_another_is_left_alone(
    serve: Serve, engine: ScriptedEngine, members: dict[str, Any]
) -> None:
    """Its first answer has all texts; from then on its JSON is its own."""

    def other(turn: Turn) -> None:
        if turn.request.json.get("stream"):
            turn.stream([delta("a"), delta(finish="stop"), event({"choices": [], **members}), DONE])
        else:
            chat(turn)

    engine.use(other)
    proxy = serve(engine.url, "--backend", "vllm", FLAG)
    blocks = [block_of(send(proxy.url, request())) for _ in range(2)]
    assert [block["measured_as"] for block in blocks] == ["stream", "json"]
    assert blocks[1]["unavailable"]["ttft_ms"] == "engine_not_assembled"
    assert engine.requests[1].json == request()


def test_what_nobody_foresaw_is_not_lost(assembling: Proxy, engine: ScriptedEngine) -> None:
    strange = {"id": "c", "new": {"a": 1}, "choices": [{"index": 0, "delta": {"tone": "warm"}, "rank": [1]}]}
    engine.use(stream(delta("a", role="assistant"), event(strange), delta(finish="stop"), DONE))
    answer = send(assembling.url, request()).json
    choice = answer["choices"][0]
    assert (answer["new"], choice["rank"], choice["message"]["tone"]) == ({"a": 1}, [1], "warm")
    assert choice["message"]["content"] == "a"


def test_pings_are_no_part_of_the_answer(assembling: Proxy, engine: ScriptedEngine) -> None:
    engine.use(stream(b": ping\n\n", delta("a"), b":\n\n", delta(finish="stop"), DONE))
    assert send(assembling.url, request()).json["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"error": {"message": "m", "type": "BadRequestError", "param": None, "code": 400}}, 400),
        ({"error": {"message": "m", "type": "InternalServerError", "code": 503}}, 503),
        ({"object": "error", "message": "m", "type": "t", "code": 422}, 422),
        ({"error": {"message": "m", "type": "t", "code": "overloaded"}}, 500),
        ({"error": {"message": "m", "code": 200}}, 500),
        ({"error": "m"}, 500),
    ],
)
@pytest.mark.parametrize("before", [[], [delta("", role="assistant"), delta("a")]], ids=["first", "after text"])
def test_an_error_in_the_stream_is_the_answer(
    assembling: Proxy, engine: ScriptedEngine, error: Any, status: int, before: list[bytes]
) -> None:
    engine.use(stream(*before, event(error), DONE))
    answer = send(assembling.url, request())
    assert (answer.status, answer.body) == (status, json.dumps(error, separators=(",", ":")).encode())
    assert answer.header("content-type") == "application/json"
    assert answer.whole


def refused(answer: Answer, status: int, code: str) -> None:
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.header("content-type") == "application/json"
    assert answer.whole


@pytest.mark.parametrize(
    "pieces",
    [
        [b'data: {"error": "no "JSON""}\n\n'],
        [delta("a"), b"data: no JSON\n\n", DONE],
        [DONE],
        [usage(1), DONE],
        [event({"choices": [1]}), DONE],
        [event({"choices": [{"delta": {"content": ["a"]}}]}), DONE],
    ],
)
def test_what_cannot_be_assembled_is_an_error(assembling: Proxy, engine: ScriptedEngine, pieces: list[bytes]) -> None:
    engine.use(stream(*pieces))
    refused(send(assembling.url, request()), 502, "stream_not_assembled")


def test_a_compressed_stream_is_an_error(assembling: Proxy, engine: ScriptedEngine) -> None:
    engine.use(stream(b"\x1f\x8b\x08", headers=[("content-encoding", "gzip")]))
    refused(send(assembling.url, request()), 502, "stream_not_assembled")


@pytest.mark.parametrize("cut", ["at its end", "inside an event"])
def test_a_stream_that_breaks_off_is_no_answer(assembling: Proxy, engine: ScriptedEngine, cut: str) -> None:
    def breaks(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a", role="assistant"))
        if cut == "at its end":
            turn.end()
        else:
            turn.chunk(delta("b")[:-9])
            turn.reset()

    engine.use(breaks)
    refused(send(assembling.url, request()), 502, "engine_closed_connection")


@pytest.mark.parametrize(("option", "code"), [("idle", "idle_timeout"), ("total", "total_timeout")])
def test_a_stream_that_stops_is_no_answer(serve: Serve, engine: ScriptedEngine, option: str, code: str) -> None:
    def stalls(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a", role="assistant"))
        turn.wait_closed()

    engine.use(stalls)
    proxy = serve(engine.url, "--backend", "vllm", FLAG, f"--{option}-timeout", "0.3")
    refused(send(proxy.url, request()), 504, code)


def test_a_client_that_leaves_closes_the_engines_connection(assembling: Proxy, engine: ScriptedEngine) -> None:
    began, left = threading.Event(), threading.Event()

    def endless(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a", role="assistant"))
        began.set()
        turn.wait_closed()
        left.set()

    engine.use(endless)
    with assembling.counts("cancelled"):
        call = Call(assembling.url, "POST", CHAT, JSON, json.dumps(request()).encode())
        assert began.wait(DEADLINE_S)
        call.leave()
        assert left.wait(DEADLINE_S)


def test_a_refusal_of_the_engines_passes(assembling: Proxy, engine: ScriptedEngine) -> None:
    case = cases("vllm")["error-model"]
    engine.use(Recorded("vllm", case))
    answer = send(assembling.url, case.request)
    assert engine.request.json["stream"] is True
    assert (answer.status, answer.body) == (404, case.body)


@pytest.mark.parametrize("place", ["none", "body", "usage", "header", "server-timing"])
def test_the_block_goes_where_it_is_wanted(served: Serve, engine: ScriptedEngine, place: str) -> None:
    proxy = served(engine.url, "--backend", "vllm", FLAG, "--enrich", "body,usage,header,server-timing")
    plain = send(proxy.url, request(), x_fastwrap_enrich="none")
    answer = send(proxy.url, request(), x_fastwrap_enrich=place)
    body, blocks = without_blocks(answer.body)
    assert body == plain.body
    assert answer.header("content-length") == str(len(answer.body))
    assert len(blocks) == (place in ("body", "usage"))
    assert ("performance" in answer.json["usage"]) == (place == "usage")
    metrics, timing = answer.header("x-performance-metrics"), answer.header("server-timing")
    assert (metrics is not None, timing is not None) == (place == "header", place == "server-timing")
    if metrics:
        assert json.loads(metrics)["ttft_ms"] is not None
    if timing:
        assert "ttft;dur=" in timing


def test_with_nothing_to_add_the_answer_is_json_all_the_same(served: Serve, engine: ScriptedEngine) -> None:
    answer = send(served(engine.url, "--backend", "vllm", FLAG, "--enrich", "none").url, request())
    assert engine.request.json["stream"] is True
    assert answer.header("content-length") == str(len(answer.body))
    assert answer.json["choices"][0]["message"]["content"] == "abc"
    assert "performance" not in answer.json


@pytest.mark.parametrize("place", ["environment", "file"])
def test_it_can_be_set_otherwise(serve: Serve, engine: ScriptedEngine, tmp_path: Path, place: str) -> None:
    file = tmp_path / "fastwrap.toml"
    file.write_text(f"measure_json_as_stream = {str(place == 'file').lower()}\n")
    env = {"FASTWRAP_MEASURE_JSON_AS_STREAM": "true"} if place == "environment" else {}
    proxy = serve(engine.url, "--backend", "vllm", "--config", str(file), env=env)
    assert block_of(send(proxy.url, request()))["measured_as"] == "stream"


def test_it_is_counted_as_a_stream(serve: Serve, engine: ScriptedEngine) -> None:
    """Its time to first token is in the histogram, and it is one complete request."""
    proxy = serve(engine.url, "--backend", "vllm", FLAG)
    with proxy.counts("complete"):
        send(proxy.url, request())
    metrics = ask(proxy.url, "GET", "/-/metrics").body.decode()
    assert re.search(r'time_to_first_token\w*_count{[^}]*operation_name="chat"[^}]*} 1(\.0)?$', metrics, re.MULTILINE)


def test_openai_s_client_reads_it(assembling: Proxy, engine: ScriptedEngine) -> None:
    engine.use(chat)
    with OpenAI(base_url=f"{assembling.url}/v1", api_key="-", max_retries=0) as client:
        answer = client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x"}])
    assert answer.choices[0].message.content == "abc"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
