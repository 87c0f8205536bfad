"""Clients leave in each phase of an answer, by a close or a reset: the engine sees its connection closed at once.

`pytest tests/chaos/test_departures.py --departures 1000` for a thousand in each, and what is promised of the time.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import quantiles

import pytest

from chaos.conftest import Tell
from chaos.test_chaos import count_threads
from proxy.client import Call, post_open, stream_open
from proxy.conftest import STACKS
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import ScriptedEngine, Turn, chat, delta

_CLIENTS = 2
_LINGER_0 = struct.pack("ii", 1, 0)
#: What is promised at the 99th percentile, and of how many departures it is asserted.
_PROMISED_S, _MANY = 0.25, 1000
#: What libraries keep open from their first use on.
_SPARE_DESCRIPTORS = 2
_PACE_S = 0.002


def in_prefill(turn: Turn, begun: threading.Event) -> float:
    begun.set()
    return turn.wait_closed()


def in_silence(turn: Turn, begun: threading.Event) -> float:
    turn.begin_stream()
    turn.chunk(delta("a"))
    return in_prefill(turn, begun)


def while_chunks_flow(turn: Turn, begun: threading.Event) -> float:
    turn.begin_stream()
    turn.socket.settimeout(_PACE_S)
    try:
        while True:
            turn.chunk(delta("a"))
            begun.set()
            try:
                assert not turn.socket.recv(1)
                break
            except TimeoutError:
                continue
    except ConnectionError:
        pass
    return turn.wait_closed()


def in_json(turn: Turn, begun: threading.Event) -> float:
    turn.head(200, [("content-type", "application/json"), ("content-length", "100")])
    turn.write(b'{"a":')
    return in_prefill(turn, begun)


PHASES: dict[str, Callable[[Turn, threading.Event], float]] = {
    "prefill": in_prefill,
    "silence": in_silence,
    "mid-stream": while_chunks_flow,
    "json": in_json,
}


class Departure:
    """What the engine knows of one."""

    def __init__(self) -> None:
        self.begun, self.closed = threading.Event(), threading.Event()
        self.closed_at = 0.0


class Departures:
    """Clients that leave in one phase, and an engine that notes when it knows.

    Attributes:
        took_s: From each client's close to that of the engine's connection.
    """

    def __init__(self, engine: ScriptedEngine, proxy: Proxy, phase: str) -> None:
        self.engine, self.proxy, self.phase = engine, proxy, phase
        self.took_s: list[float] = []
        self._all: dict[str, Departure] = {}
        engine.use(self.answer)

    def answer(self, turn: Turn) -> None:
        departure = self._all[turn.request.json["user"]]
        departure.closed_at = PHASES[self.phase](turn, departure.begun)
        departure.closed.set()

    def leave(self, number: int) -> None:
        dice, user = random.Random(number), str(number)  # noqa: S311 (not a secret)
        departure = self._all[user] = Departure()
        call = self.call(user)
        assert departure.begun.wait(DEADLINE_S)
        if self.phase in ("silence", "mid-stream"):
            for _ in range(1 if self.phase == "silence" else dice.randint(1, 5)):
                call.read_until(b'"a"')
        if dice.random() < 0.5:
            call.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        left_at = time.monotonic()
        call.leave()
        assert departure.closed.wait(DEADLINE_S), "the engine goes on generating"
        self.took_s.append(departure.closed_at - left_at)

    def call(self, user: str) -> Call:
        if self.phase == "json":
            return post_open(self.proxy.url, {"model": "m", "messages": [], "user": user})
        return stream_open(self.proxy.url, user=user)

    def told(self) -> str:
        p50, p99 = (quantiles(self.took_s, n=100, method="inclusive")[at] * 1e3 for at in (49, 98))
        worst = max(self.took_s) * 1e3
        return f"{len(self.took_s):,} departures, ms: p50 {p50:.1f}, p99 {p99:.1f}, max {worst:.1f}"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_the_engine_is_told_of_every_departure(
    stack: str, phase: str, request: pytest.FixtureRequest, tell: Tell
) -> None:
    count: int = request.config.getoption("--departures", 20)
    engine = ScriptedEngine()
    proxy = Proxy(engine.url, *STACKS[stack], "--backend", "vllm")
    try:
        engine.use(chat)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            list(pool.map(lambda _: stream_open(proxy.url).answer(), range(_CLIENTS)))
            until(lambda: proxy.in_flight == 0, "nothing in flight")
            descriptors, threads = proxy.descriptors, count_threads(proxy)
            departures = Departures(engine, proxy, phase)
            with proxy.counts("cancelled", requests=count):
                list(pool.map(departures.leave, range(count)))
        tell(departures.told())
        until(lambda: proxy.descriptors <= descriptors + _SPARE_DESCRIPTORS, "sockets are closed")
        assert count_threads(proxy) <= threads
        assert not engine.failures
        if count >= _MANY:
            assert quantiles(departures.took_s, n=100, method="inclusive")[98] < _PROMISED_S
    finally:
        proxy.stop()
        engine.close()
