"""The engine's own gauges in the block: what they say, and how often the engine is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastwrap import backends, gauges
from proxy.blocks import block_of
from proxy.client import post, stream_open
from proxy.conftest import STACKS, Serve
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta

BACKEND = ("--backend", "vllm")
NAMES = ("engine.kv_cache_usage", "engine.running", "engine.waiting")
#: The least time between two polls, less what a clock may be read late.
BUSY_S, IDLE_S, SLACK_S = 0.5, 5.0, 0.05


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    """One of this test alone: whatever else runs polls the one that all share."""
    engine = ScriptedEngine()
    engine.use(chat)
    yield engine
    engine.close()
    assert not engine.failures


class Page:
    """vLLM's page of metrics, and when it was read."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.usage = [0.0]
        self.running = 0
        self.polls: list[float] = []
        self.headers: list[list[tuple[str, str]]] = []
        engine.metrics = self.answer

    def answer(self, turn: Turn) -> None:
        self.polls.append(time.monotonic())
        self.headers.append(turn.request.headers)
        engines = range(len(self.usage))
        lines = [f'vllm:num_requests_running{{engine="{one}"}} {float(self.running)}' for one in engines]
        lines += [f'vllm:num_requests_waiting{{engine="{one}"}} 0.0' for one in engines]
        lines += [f'vllm:kv_cache_usage_perc{{engine="{one}"}} {usage}' for one, usage in enumerate(self.usage)]
        lines += ["# TYPE vllm:other histogram", 'vllm:other_bucket{le="1"} 3.0', "vllm:kv_cache_usage_perc_not 0.9"]
        turn.answer("\n".join(lines).encode(), headers=[("content-type", "text/plain; version=0.0.4")])

    def until_polled(self) -> None:
        """Wait for a poll that begins from now on."""
        polls = len(self.polls)
        until(lambda: len(self.polls) > polls, "a poll")

    @property
    def gaps_s(self) -> list[float]:
        return [later - earlier for earlier, later in zip(self.polls, self.polls[1:], strict=False)]


def until_sampled(proxy: Proxy) -> dict[str, Any]:
    """Ask until the block has gauges; the first may come before the page was read."""
    found: dict[str, Any] = {}

    def sampled() -> bool:
        found.update(block_of(post(proxy.url)))
        return found["engine"] is not None

    until(sampled, "gauges in the block")
    return found


def gated(gate: threading.Event) -> Any:
    """A stream that goes on when the gate opens."""

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(DEADLINE_S)
        turn.chunk(delta("b") + delta(finish="stop") + DONE)
        turn.end()

    return answer


def test_start_peak_and_end_are_the_engines(serve: Serve, engine: ScriptedEngine) -> None:
    page = Page(engine)
    page.usage = [0.125, 0.0625]
    proxy = serve(engine.url, *BACKEND)
    first = until_sampled(proxy)
    assert first["engine"]["kv_cache_usage"] == {"start": 0.125, "peak": 0.125, "end": 0.125}, "the fullest"
    gate = threading.Event()
    engine.script = gated(gate)
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    for page.usage, page.running in (([0.5, 0.75], 2), ([0.25, 0.0], 1)):
        page.until_polled()
        page.until_polled()  # the one before may have been answered before this was set
    gate.set()
    block = block_of(call.answer())
    assert block["engine"]["kv_cache_usage"] == {"start": 0.125, "peak": 0.75, "end": 0.25}
    assert block["engine"]["running"] == {"start": 0, "peak": 4, "end": 2}, "all engines together"
    assert block["engine"]["waiting"] == {"start": 0, "peak": 0, "end": 0}
    assert block["engine"]["gauge_samples"] >= 3
    assert not set(block["unavailable"]) & {"engine", *NAMES}


def test_a_while_after_the_last_request_it_polls_once_more(serve: Serve, engine: ScriptedEngine) -> None:
    """What was true of it is true no more, and is not to be the start of the next."""
    page = Page(engine)
    proxy = serve(engine.url, *BACKEND)
    until_sampled(proxy)
    gate = threading.Event()
    engine.script = gated(gate)
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    page.running = 1
    page.until_polled()
    gate.set()
    call.answer()
    ended = time.monotonic()
    until(lambda: page.polls[-1] > ended + BUSY_S - SLACK_S, "a later poll", 0.6 * IDLE_S)


@pytest.mark.parametrize("workers", ["1", "4"])
def test_many_requests_share_the_polls(serve: Serve, engine: ScriptedEngine, workers: str) -> None:
    page = Page(engine)
    proxy = serve(engine.url, *BACKEND, "--workers", workers)
    until(lambda: page.polls, "the first poll")
    end = time.monotonic() + 4 * BUSY_S
    with ThreadPoolExecutor(8) as pool:
        while time.monotonic() < end:
            assert all(answer.status == 200 for answer in pool.map(lambda _: post(proxy.url), range(32)))
    blocks = [block_of(post(proxy.url)) for _ in range(20)]  # whichever worker answers
    assert all(block["engine"]["kv_cache_usage"] for block in blocks)
    # A poll may arrive late, and the next one in time: the pace is that of all.
    most = (page.polls[-1] - page.polls[0]) / BUSY_S + 2
    assert 2 <= len(page.polls) <= most


def test_idle_it_polls_seldom(engine: ScriptedEngine) -> None:
    page = Page(engine)
    proxy = Proxy(engine.url, *STACKS["native"], *BACKEND)
    try:
        until(lambda: len(page.polls) >= 2, "two polls", 3 * IDLE_S)
    finally:
        proxy.stop()
    assert min(page.gaps_s) > 0.5 * IDLE_S


def test_no_key_of_a_client_is_used(serve: Serve, engine: ScriptedEngine) -> None:
    page = Page(engine)
    proxy = serve(engine.url, *BACKEND)
    until(lambda: page.polls, "the first poll")
    polls = len(page.polls)
    post(proxy.url, headers=[("authorization", "Bearer secret"), ("cookie", "secret")])
    until(lambda: len(page.polls) > polls, "another one")
    assert all("secret" not in str(headers) for headers in page.headers)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (404, b"{}", "not_offered"),
        (501, b"{}", "not_offered"),
        (401, b"{}", "unauthorized"),
        (200, b"python_info 1.0\n", "not_offered"),
        (200, b"vllm:kv_cache_usage_perc many\n", "unreadable"),
        (503, b"", "not_sampled"),
    ],
)
def test_why_there_are_none(engine: ScriptedEngine, status: int, body: bytes, reason: str) -> None:
    polled = threading.Event()

    def answer(turn: Turn) -> None:
        turn.answer(body, status)
        polled.set()

    engine.metrics = answer
    proxy = Proxy(engine.url, *STACKS["native"], *BACKEND)
    try:
        assert polled.wait(DEADLINE_S)
        until(lambda: block_of(post(proxy.url))["unavailable"]["engine.running"] == reason, reason)
        block = block_of(post(proxy.url))
    finally:
        proxy.stop()
    assert block["engine"] is None
    assert block["unavailable"]["engine"] == "not_reported"
    assert {block["unavailable"][name] for name in NAMES} == {reason}


def test_an_engine_without_gauges_is_not_asked(serve: Serve, engine: ScriptedEngine) -> None:
    page = Page(engine)
    proxy = serve(engine.url, "--backend", "openai")
    until(lambda: block_of(post(proxy.url))["unavailable"]["engine.running"] == "not_offered", "the reason")
    assert not page.polls


@pytest.mark.parametrize(
    ("name", "owner", "path"),
    [("lmdeploy", "lmdeploy", "/metrics"), ("tensorrtllm", "tensorrt_llm", "/prometheus/metrics")],
)
def test_engines_that_are_known_by_their_models_owner(engine: ScriptedEngine, name: str, owner: str, path: str) -> None:
    """Of TensorRT-LLM, `/metrics` and `/perf_metrics` are never asked for: that empties them."""
    asked: list[str] = []

    def answer(turn: Turn) -> None:
        asked.append(turn.request.target)
        if turn.request.target == path:
            turn.answer(f'{dict(backends.backend(name).gauges).popitem()[0]}{{engine="0"}} 3.0\n'.encode())
        elif turn.request.target == "/v1/models":
            turn.json({"object": "list", "data": [{"id": "m", "object": "model", "owned_by": owner}]})
        else:
            chat(turn)

    engine.use(answer)
    engine.metrics = answer
    proxy = Proxy(engine.url, *STACKS["native"])
    try:
        block = until_sampled(proxy)
    finally:
        proxy.stop()
    assert block["backend"] == name
    assert block["engine"]["waiting"] == {"start": 3, "peak": 3, "end": 3}
    assert path in asked
    if name == "tensorrtllm":
        assert not {"/metrics", "/perf_metrics"} & set(asked)


@pytest.mark.parametrize(
    ("backend", "page", "values"),
    [
        ("vllm", 'vllm:gpu_cache_usage_perc{model_name="m"} 0.5\n', [0.5, None, None]),
        ("vllm", 'vllm:kv_cache_usage_perc{engine="0"} NaN\nvllm:num_requests_running 2\n', [None, 2, None]),
        ("sglang", 'sglang:token_usage{tp_rank="0"} 0.25\nsglang:num_running_reqs 1.0\n', [0.25, 1, None]),
        ("sglang", "sglang:num_queue_reqs 4.0\n", [None, None, 4]),
        ("llamacpp", "llamacpp:requests_processing 1\nllamacpp:requests_deferred 2\n", [None, 1, 2]),
        ("tgi", "tgi_batch_current_size 3\ntgi_queue_size 1\n", [None, 3, 1]),
        ("vllm", "# HELP vllm:kv_cache_usage_perc of it\n# TYPE vllm:kv_cache_usage_perc gauge\n", [None] * 3),
        ("vllm", "", [None] * 3),
    ],
)
def test_pages_of_engines(backend: str, page: str, values: list[float | None]) -> None:
    read = gauges.read(page.encode(), backends.backend(backend).gauges)
    assert read == [None if value is None else value * 1_000_000 for value in values]


@given(
    series=st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1000)), max_size=12),
    noise=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), max_size=30), max_size=8),
)
def test_a_page_is_read_as_by_a_naive_twin(series: list[tuple[int, float]], noise: list[str]) -> None:
    """The fullest cache, the sum of the requests; lines that are not wanted change nothing."""
    names = [name for name, _ in backends.backend("sglang").gauges]
    lines = [f'{names[at]}{{dp_rank="{number}"}} {value!r}' for number, (at, value) in enumerate(series)]
    page = "\n".join([*(f"# {line}" for line in noise), *lines, *(f"{name}_not 1.0" for name in names)])
    wanted = [[round(value * 1e6) for at, value in series if at == place] for place in range(3)]
    naive = [max(wanted[0], default=None), *(sum(values) if values else None for values in wanted[1:])]
    assert gauges.read(page.encode(), backends.backend("sglang").gauges) == naive


def test_switched_off_nothing_is_asked(serve: Serve, engine: ScriptedEngine) -> None:
    page = Page(engine)
    proxy = serve(engine.url, *BACKEND, "--engine-samples", "off")
    reasons = block_of(post(proxy.url))["unavailable"]
    assert {reasons[name] for name in (*NAMES, "host_memory")} == {"disabled"}
    assert not page.polls


def test_a_page_that_hangs_holds_nobody_up(serve: Serve, engine: ScriptedEngine) -> None:
    asked = threading.Event()

    def hang(turn: Turn) -> None:
        asked.set()
        turn.pause(DEADLINE_S)

    engine.metrics = hang
    proxy = serve(engine.url, *BACKEND)
    assert asked.wait(DEADLINE_S)
    blocks = [block_of(post(proxy.url)) for _ in range(200)]
    assert sorted(block["latency_ms"] for block in blocks)[-3] < 500
    assert {block["unavailable"]["engine.running"] for block in blocks} == {"not_sampled"}


@pytest.mark.parametrize("pause_s", [0.0, 0.2], ids=["fast", "trickles"])
def test_a_page_without_end_is_left(serve: Serve, engine: ScriptedEngine, pause_s: float) -> None:
    """It may take neither memory nor the time of a request or a probe."""
    sent, left = 0, threading.Event()

    def endless(turn: Turn) -> None:
        nonlocal sent
        turn.head(200, [("content-type", "text/plain"), ("content-length", str(1 << 30))])
        line = b"# " + b"x" * (1 << 16 if not pause_s else 8) + b"\n"
        try:
            while sent < 1 << 30:
                turn.write(line)
                sent += len(line)
                if pause_s:
                    turn.pause(pause_s)
        finally:
            left.set()

    engine.metrics = endless
    proxy = serve(engine.url, *BACKEND)
    before = proxy.rss_bytes
    while not left.is_set():
        assert post(proxy.url).status == 200
    assert sent < 64 << 20
    assert proxy.rss_bytes - before < 64 << 20
    assert stream_open(proxy.url).answer().events[-1] == "[DONE]"
