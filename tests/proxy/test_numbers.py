"""The numbers are true: compared with an engine whose delays are known. Lower bounds hold exactly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from proxy.blocks import Block, block_of, without_blocks
from proxy.client import Answer, ask, post, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, delta, event, usage

#: An engine's pause, and how much later fastwrap may see it on a busy machine.
PAUSE_S = 0.08
PAUSE_MS = PAUSE_S * 1e3
SLACK_MS = 150.0
#: How much shorter than the pause a gap may look, if the first of the two was read late.
EARLY_MS = 25.0


class Paced:
    """Sends one piece after each pause."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = pieces

    def __call__(self, turn: Turn) -> None:
        turn.begin_stream()
        for piece in self.pieces:
            turn.pause(PAUSE_S)
            turn.chunk(piece)
        turn.end()


def measured(proxy: Proxy, engine: ScriptedEngine, *pieces: bytes) -> tuple[Block, float]:
    """The block, and the whole time in ms as the client saw it."""
    engine.use(Paced(*pieces))
    began = time.monotonic()
    block = block_of(stream(proxy.url))
    return block, (time.monotonic() - began) * 1e3


def about(pauses: int) -> Any:
    """After so many pauses, and not before."""

    class About:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, float) and pauses * PAUSE_MS - 1 <= other <= pauses * PAUSE_MS + SLACK_MS

        def __repr__(self) -> str:
            return f"{pauses * PAUSE_MS} ms + {SLACK_MS}"

        __hash__ = object.__hash__

    return About()


@pytest.mark.parametrize(
    "silent",
    [
        delta("", role="assistant"),
        delta(role="assistant"),
        b": ping\n\n",
        delta(""),
        event({"choices": [{"index": 0, "delta": {"content": None}}]}),
        event({"choices": [{"index": 0, "delta": {"reasoning_content": None, "content": ""}}]}),
    ],
)
def test_the_first_token_is_the_first_text(proxy: Proxy, engine: ScriptedEngine, silent: bytes) -> None:
    block, _ = measured(proxy, engine, silent, delta("a"), delta(finish="stop") + DONE)
    assert block["ttft_ms"] == about(2)
    assert block["first_byte_ms"] == about(1)
    assert block["chunks"] == 1
    if silent.startswith(b"data"):
        assert block["first_chunk_ms"] == about(1)


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_is_text_but_no_answer(proxy: Proxy, engine: ScriptedEngine, name: str) -> None:
    thought = event({"choices": [{"index": 0, "delta": {name: "hm"}, "finish_reason": None}]})
    block, _ = measured(proxy, engine, thought, thought, delta("a"), delta(finish="stop") + DONE)
    assert (block["ttft_ms"], block["first_answer_ms"], block["chunks"]) == (about(1), about(3), 3)


def test_tool_calls_are_text(proxy: Proxy, engine: ScriptedEngine) -> None:
    call = delta(tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}])
    more = delta(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}])
    block, _ = measured(proxy, engine, delta("", role="assistant"), call, more, delta(finish="tool_calls") + DONE)
    assert (block["ttft_ms"], block["chunks"]) == (about(2), 2)


def test_times_of_a_stream(proxy: Proxy, engine: ScriptedEngine) -> None:
    words = [delta(word) for word in "abcde"]
    block, seen_ms = measured(proxy, engine, *words, delta(finish="stop"), usage(5) + DONE)
    assert block["latency_ms"] == about(7)
    assert block["latency_ms"] <= seen_ms
    assert block["ttft_ms"] == about(1)
    assert block["tpot_ms"] == about(1)
    gaps = block["inter_chunk_ms"]
    assert gaps["mean"] == about(1)
    assert gaps["p50"] <= gaps["p90"] <= gaps["p99"] <= gaps["max"]
    assert (block["chunks"], block["completion_tokens"], block["prompt_tokens"]) == (5, 5, 3)
    assert block["token_source"] == "usage"  # noqa: S105 (a count's source)
    assert block["output_tokens_per_second"] == pytest.approx(5e3 / block["latency_ms"], rel=0.01)
    assert 0 < block["proxy_overhead_ms"] < SLACK_MS
    assert (block["outcome"], block["concurrent_requests"], block["backend"]) == ("complete", 1, "vllm")


def test_tpot_counts_tokens_not_chunks(proxy: Proxy, engine: ScriptedEngine) -> None:
    block, _ = measured(proxy, engine, delta("abc"), delta("def"), delta(finish="stop"), usage(9) + DONE)
    assert (PAUSE_MS - EARLY_MS) / 8 <= block["tpot_ms"] <= (PAUSE_MS + SLACK_MS) / 8


def test_choices_are_told_one_by_one(proxy: Proxy, engine: ScriptedEngine) -> None:
    words = [delta("a"), delta("b", index=1), delta("c"), delta("d", index=1)]
    block, _ = measured(proxy, engine, *words, delta(finish="stop"), usage(6) + DONE)
    assert block["choices"] == [
        {"index": 0, "ttft_ms": about(1), "chunks": 2},
        {"index": 1, "ttft_ms": about(2), "chunks": 2},
    ]
    assert block["ttft_ms"] == about(1)
    assert block["inter_chunk_ms"]["mean"] == about(2), "within a choice"
    assert (2 * PAUSE_MS - EARLY_MS) / 2 <= block["tpot_ms"] <= (2 * PAUSE_MS + SLACK_MS) / 2


def test_tokens_of_the_first_chunk_count_for_nothing_where_they_are_told(proxy: Proxy, engine: ScriptedEngine) -> None:
    def counted(word: str, tokens: int) -> bytes:
        counts = {"prompt_tokens": 3, "completion_tokens": tokens}
        return event({"choices": [{"index": 0, "delta": {"content": word}}], "usage": counts})

    block, _ = measured(proxy, engine, counted("abc", 7), counted("d", 8), delta(finish="stop"), usage(9) + DONE)
    assert PAUSE_MS - EARLY_MS <= block["tpot_ms"] <= PAUSE_MS + SLACK_MS


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        ([delta("a"), delta(finish="stop"), usage(1) + DONE], "fewer_than_2_tokens"),
        ([delta("ab"), delta(finish="stop"), usage(2) + DONE], "fewer_than_2_chunks"),
        ([delta("a"), delta("b"), delta(finish="stop") + DONE], "no_usage"),
        ([delta(finish="stop"), usage(0) + DONE], "no_text"),
        ([delta("a"), delta("b", index=1), delta(finish="stop"), usage(4) + DONE], "fewer_than_2_chunks"),
    ],
)
def test_null_has_a_reason(proxy: Proxy, engine: ScriptedEngine, pieces: list[bytes], reason: str) -> None:
    engine.use(lambda turn: turn.stream(pieces))
    block = block_of(stream(proxy.url))
    assert block["tpot_ms"] is None
    assert block["unavailable"]["tpot_ms"] == reason


def test_every_null_has_a_reason(proxy: Proxy) -> None:
    for ask_one in (post, stream):
        block = block_of(ask_one(proxy.url))
        nulls = {name for name, value in block.items() if value is None}
        assert nulls <= block["unavailable"].keys()
        assert "memory_delta_mb" in nulls


def test_json_takes_its_time(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.pause(PAUSE_S)
        body = b'{"usage":{"completion_tokens":4,"prompt_tokens":2}}'
        turn.head(200, [("content-type", "application/json"), ("content-length", str(len(body)))])
        turn.pause(PAUSE_S)
        turn.write(body[:9])
        turn.pause(PAUSE_S)
        turn.write(body[9:])

    engine.use(answer)
    block = block_of(post(proxy.url))
    assert (block["first_byte_ms"], block["latency_ms"]) == (about(2), about(3))
    assert block["output_tokens_per_second"] == pytest.approx(4e3 / block["latency_ms"], rel=0.01)


_SGLANG = {"queue_time": 0.0006, "first_token_latency": 0.02, "e2e_latency": 0.03, "decode_throughput": 296.03112}
_DYNAMO = {"request_received_ms": 1777312800000, "prefill_wait_time_ms": 1.5, "ttft_ms": 20, "total_time_ms": 30}


@pytest.mark.parametrize(
    ("backend", "headers", "members", "numbers"),
    [
        (
            "tgi",
            {"x-queue-time": "1", "x-inference-time": "28", "x-validation-time": "0", "x-total-time": "30"},
            {},
            {"validation_ms": 0, "queue_ms": 1, "inference_ms": 28, "latency_ms": 30},
        ),
        (
            "sglang",
            {},
            {"choices": [{"index": 0, "message": {"content": "a"}, "meta_info": _SGLANG}]},
            {"queue_ms": 0.6, "ttft_ms": 20.0, "latency_ms": 30.0, "output_tokens_per_second": 296.031},
        ),
        (
            "openai",
            {},
            {"nvext": {"worker_id": 7, "timing": _DYNAMO}},
            {"queue_ms": 1.5, "ttft_ms": 20, "latency_ms": 30},
        ),
        (
            "vllm",
            {},
            {
                "metrics": {
                    "time_to_first_token_ms": 20.0,
                    "speculative_decoding": {"draft_acceptance_rate": 0.5, "num_accepted_draft_tokens": 4},
                }
            },
            {"ttft_ms": 20.0, "accepted_draft_tokens": 4, "draft_acceptance_rate": 0.5},
        ),
    ],
)
def test_what_the_engine_says_is_read_compared_and_left_in_place(
    served: Serve,
    engine: ScriptedEngine,
    backend: str,
    headers: dict[str, str],
    members: dict[str, Any],
    numbers: dict[str, float],
) -> None:
    body = json.dumps({"choices": [], **members}).encode()

    def answer(turn: Turn) -> None:
        turn.pause(PAUSE_S)
        told = [("content-type", "application/json"), ("content-length", str(len(body))), *headers.items()]
        turn.head(200, told)
        turn.write(body)

    engine.use(answer)
    proxy = served(engine.url, "--backend", backend)
    told = post(proxy.url)
    rest, blocks = without_blocks(told.body)
    assert json.loads(rest) == json.loads(body)
    assert headers.items() <= dict(told.headers).items()
    block = blocks[0]
    if "latency_ms" in numbers:
        numbers = {**numbers, "latency_difference_ms": round(block["latency_ms"] - 30, 3)}
    assert block["engine"] == numbers


def test_the_engines_time_to_first_token_is_compared_with_ours(served: Serve, engine: ScriptedEngine) -> None:
    told = event({"choices": [], "usage": {"completion_tokens": 2}, "metrics": {"time_to_first_token_ms": 2.5}})
    proxy = served(engine.url, "--backend", "vllm")
    block, _ = measured(proxy, engine, delta("a"), delta("b"), delta(finish="stop"), told + DONE)
    assert block["engine"] == {"ttft_ms": 2.5, "ttft_difference_ms": round(block["ttft_ms"] - 2.5, 3)}


def test_the_clock_starts_with_the_requests_last_byte(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lambda turn: turn.stream([delta("a"), delta(finish="stop"), DONE]))

    def slowly() -> Any:
        yield b'{"stream":'
        threading.Event().wait(0.5)
        yield b"true}"

    block = block_of(ask(proxy.url, "POST", "/v1/chat/completions", body=slowly()))
    assert block["latency_ms"] < 400


def test_stalls_are_counted(served: Serve, engine: ScriptedEngine) -> None:
    proxy = served(engine.url, "--backend", "vllm", "--stall-ms", str(PAUSE_MS / 2))
    block, _ = measured(proxy, engine, delta("a"), delta("b") + delta("c"), delta("d"), delta(finish="stop") + DONE)
    assert block["inter_chunk_ms"]["stalls"] == 2
    assert block["chunks"] == 4


def test_concurrent_requests(proxy: Proxy, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(20)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    until(lambda: proxy.in_flight == 0, "nothing in flight")
    engine.use(answer)
    calls = [stream_open(proxy.url) for _ in range(5)]
    until(lambda: proxy.in_flight == 5, "five in flight")
    gate.set()
    answers = [call.answer() for call in calls]
    assert [block_of(answer)["concurrent_requests"] for answer in answers] == [5] * 5
    assert block_of(stream(proxy.url))["concurrent_requests"] == 1


def test_what_arrives_is_handed_on_at_once(proxy: Proxy, engine: ScriptedEngine) -> None:
    """The client has each piece before the engine sends the next one."""
    handed_on = threading.Semaphore(0)

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        for word in "abcdef":
            turn.chunk(delta(word))
            assert handed_on.acquire(timeout=20)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    call = stream_open(proxy.url)
    for word in b"abcdef":
        call.read_until(b'"%c"' % word)
        handed_on.release()
    assert call.answer().events[-1] == "[DONE]"


@pytest.mark.parametrize("make", [post, stream])
def test_histograms_count_what_blocks_say(proxy: Proxy, make: Callable[[str], Answer]) -> None:
    name = "gen_ai_server_request_duration_seconds"
    make(proxy.url)
    until(lambda: proxy.in_flight == 0, "nothing in flight")
    before = proxy.scrape()
    block = block_of(make(proxy.url))
    until(lambda: proxy.in_flight == 0, "nothing in flight")
    after = proxy.scrape()
    spent = after[f"{name}_sum", "chat", "vllm"] - before[f"{name}_sum", "chat", "vllm"]
    assert after[f"{name}_count", "chat", "vllm"] - before[f"{name}_count", "chat", "vllm"] == 1
    assert spent == pytest.approx(block["latency_ms"] / 1e3, abs=1e-6)
