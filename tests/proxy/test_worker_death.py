"""A worker process that is killed takes its own streams with it and nothing else, and another one takes its place."""

from __future__ import annotations

import os
import signal
import threading

from proxy.client import stream, stream_open
from proxy.conftest import STACKS
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta

_STREAMS = 30


def workers(proxy: Proxy) -> set[int]:
    """The processes that hold connections: all but the one that started them."""
    return {pid for pid in proxy.pids if pid != proxy.process.pid}


def test_the_others_go_on(engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        assert gate.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    proxy = Proxy(engine.url, *STACKS["granian-native"], "--backend", "vllm", "--workers", "2")
    try:
        with proxy.counts("complete", requests=4):
            assert all(stream(proxy.url).events[-1] == "[DONE]" for _ in range(4))
        engine.use(answer)
        calls = [stream_open(proxy.url) for _ in range(_STREAMS)]
        for call in calls:
            call.read_until(b'"a"')
        before = workers(proxy)
        os.kill(max(before), signal.SIGKILL)
        until(lambda: len(workers(proxy) - before) >= 1, "another worker")
        until(lambda: proxy.in_flight < _STREAMS, "what it had in flight is gone")
        left = proxy.in_flight
        gate.set()
        whole = [answer.whole for answer in [call.answer() for call in calls]]
        assert sum(whole) == left
        until(lambda: proxy.in_flight == 0, "nothing in flight")
        assert proxy.outcomes()["complete"] == 4 + left, "what was counted stays"
        engine.use(chat)
        with proxy.counts("complete", requests=20):
            assert all(stream(proxy.url).events[-1] == "[DONE]" for _ in range(20))
    finally:
        gate.set()
        proxy.stop()
