"""Workers, and how the processes end."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.client import post, stream, stream_open
from proxy.conftest import STACKS, Serve
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, Endless, ScriptedEngine, Turn, delta

#: As in `Proxy`.
GRACE_S = 1.0


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_end(proxy: Proxy) -> float:
    """Tell it to stop; how many seconds it took. No process is left."""
    pids = proxy.pids
    began = time.monotonic()
    proxy.process.send_signal(signal.SIGTERM)
    proxy.process.wait(DEADLINE_S)
    took_s = time.monotonic() - began
    until(lambda: not any(alive(pid) for pid in pids), "all processes have ended", 2.0)
    return took_s


def test_the_workers_count_together(serve: Serve, engine: ScriptedEngine) -> None:
    proxy = serve(engine.url, "--backend", "vllm", "--workers", "2")
    total = 60
    with ThreadPoolExecutor(8) as pool, proxy.counts("complete", requests=total):
        answers = list(pool.map(lambda _: stream(proxy.url), range(total)))
    assert all(answer.events[-1] == "[DONE]" for answer in answers)
    for _ in range(10):  # whichever worker answers
        samples = proxy.scrape()
        assert samples["fastwrap_requests_total", "chat", "complete"] == total
        assert samples["gen_ai_server_request_duration_seconds_count", "chat", "vllm"] == total
        assert samples["fastwrap_tokens_total", "chat", "output"] == 3 * total
        assert samples["fastwrap_requests_in_flight",] == 0


def test_requests_in_flight_are_those_of_all_workers(serve: Serve, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        gate.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    proxy = serve(engine.url, "--backend", "vllm", "--workers", "2")
    calls = [stream_open(proxy.url) for _ in range(20)]
    until(lambda: proxy.in_flight == 20, "20 in flight")
    gate.set()
    assert all(call.answer().events[-1] == "[DONE]" for call in calls)
    until(lambda: proxy.in_flight == 0, "nothing in flight")


@pytest.mark.skipif(sys.platform != "linux", reason="sends a signal to one thread")
def test_a_signal_that_another_thread_gets_is_not_lost(serve: Serve, engine: ScriptedEngine) -> None:
    """The kernel may choose any thread; Python's handlers run in the main thread only."""
    proxy = serve(engine.url)
    pid = proxy.process.pid
    others = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir() if int(task.name) != pid]
    assert others
    assert ctypes.CDLL(None).tgkill(pid, others[0], int(signal.SIGTERM)) == 0
    proxy.process.wait(GRACE_S + 2)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_idle_it_stops_at_once(serve: Serve, engine: ScriptedEngine, workers: str) -> None:
    proxy = serve(engine.url, "--workers", workers)
    assert post(proxy.url).status == 200
    assert wait_end(proxy) < GRACE_S + 2
    assert "Traceback" not in proxy.log


def test_a_stream_in_flight_may_end_within_the_grace_time(serve: Serve, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    proxy = serve(engine.url, "--backend", "vllm", "--grace", "5")
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    proxy.process.send_signal(signal.SIGTERM)
    until(lambda: refuses(proxy), "new connections are refused")
    gate.set()
    assert call.answer().events[-1] == "[DONE]"
    assert proxy.process.wait(DEADLINE_S) == 0


def refuses(proxy: Proxy) -> bool:
    try:
        stream_open(proxy.url).leave()
    except OSError:
        return True
    return False


def test_an_endless_stream_is_ended(serve: Serve, engine: ScriptedEngine) -> None:
    engine.use(endless := Endless())
    proxy = serve(engine.url, "--backend", "vllm")
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    assert wait_end(proxy) < GRACE_S + 2
    rest = call.answer()
    assert not rest.whole or rest.events[-1]["error"], "it looks like a clean end"
    assert endless.closed.wait(DEADLINE_S)


def test_start_up_takes_less_than_a_second(stack: str, engine: ScriptedEngine) -> None:
    took_s = []
    for _ in range(3):
        began = time.monotonic()
        proxy = Proxy(engine.url, *STACKS[stack], "--backend", "vllm")
        assert post(proxy.url).status == 200
        took_s.append(time.monotonic() - began)
        proxy.stop()
    assert min(took_s) < 1.5  # 1 s is promised, on a machine that does nothing else
