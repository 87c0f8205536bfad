"""Everything goes wrong at once, for a minute: `pytest tests/chaos --chaos-seconds 3600 --chaos-seed 7` for an hour.

At the end nothing is left behind, and every request has ended once, in a way that its plan allows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from chaos import client
from chaos.engine import Engine
from chaos.plan import IDLE_S, Manner, Plan
from proxy.conftest import STACKS
from proxy.processes import Proxy

_CLIENTS = 48
_SETTLING_S = 20.0
_MIB = 1 << 20
#: What memory may grow by between the second and the last third of a minute, allocators being what they are.
_GROWTH_BYTES = 12 * _MIB
_OPTIONS = ("--backend", "vllm", "--idle-timeout", f"{IDLE_S}", "--first-byte-timeout", f"{IDLE_S}")


class Run:
    """What was planned, and what came of it."""

    def __init__(self, seed: int, seconds: float) -> None:
        self.dice = random.Random(seed)  # noqa: S311 (not a secret)
        self.began_s = time.monotonic()
        self.seconds = seconds
        self.plans: list[Plan] = []
        self.amiss: list[str] = []
        self.rss_bytes: list[tuple[float, int]] = []

    @property
    def share(self) -> float:
        return (time.monotonic() - self.began_s) / self.seconds

    def plan(self) -> Plan | None:
        if self.share >= 1:
            return None
        plan = Plan.drawn(len(self.plans), self.dice)
        self.plans.append(plan)
        return plan

    async def be_client(self, proxy: Proxy) -> None:
        address = urlsplit(proxy.url)
        while (plan := self.plan()) is not None:
            amiss = await client.run(plan, address.hostname or "", address.port or 0)
            if amiss:
                self.amiss.append(f"{plan}\n{amiss}")

    async def watch(self, proxy: Proxy) -> None:
        while self.share < 1:
            self.rss_bytes.append((self.share, proxy.rss_bytes))
            await asyncio.sleep(0.2)

    def highest_rss(self, start: float, end: float) -> int:
        return max(rss for share, rss in self.rss_bytes if start <= share < end)


def count_threads(proxy: Proxy) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in proxy.pids)


async def settled(engine: Engine, proxy: Proxy, descriptors: int) -> None:
    """Nothing is in flight, no connection is open."""
    deadline = time.monotonic() + _SETTLING_S
    while True:
        in_flight = await asyncio.to_thread(lambda: proxy.in_flight)
        left = (in_flight, engine.connections, max(proxy.descriptors - descriptors, 0))
        if not any(left):
            return
        assert time.monotonic() < deadline, f"left behind: in flight, connections to the engine, descriptors: {left}"
        await asyncio.sleep(0.05)


async def chaos(stack: str, seed: int, seconds: float) -> None:
    engine = Engine()
    url = await engine.start()
    proxy = await asyncio.to_thread(Proxy, url, *STACKS[stack], *_OPTIONS)
    try:
        await settled(engine, proxy, proxy.descriptors)
        descriptors, threads = proxy.descriptors, count_threads(proxy)
        run = Run(seed, seconds)
        await asyncio.gather(run.watch(proxy), *(run.be_client(proxy) for _ in range(_CLIENTS)))
        await settled(engine, proxy, descriptors)
        assert count_threads(proxy) <= threads
        counted = await asyncio.to_thread(proxy.outcomes)
        await asyncio.to_thread(check, run, engine, proxy, counted)
    finally:
        await asyncio.to_thread(proxy.stop)
        await engine.stop()


def check(run: Run, engine: Engine, proxy: Proxy, counted: dict[str, int]) -> None:
    assert not run.amiss, f"{len(run.amiss)} of {len(run.plans)}:\n" + "\n\n".join(run.amiss[:10])
    assert len(run.plans) > 20 * run.seconds
    # The engine has executed nothing twice, and everything that a client has an answer to.
    assert max(engine.executed.values()) == 1
    answered = {plan.number for plan in run.plans if not plan.leaves}
    assert answered <= engine.executed.keys()
    # A request whose client was gone before it was read is none.
    sure = [plan for plan in run.plans if plan.manner is not Manner.LEAVES_AT_ONCE]
    assert len(sure) <= sum(counted.values()) <= len(run.plans)
    certain, possible = Counter[str](), Counter[str]()
    for plan in run.plans:
        outcomes = plan.outcomes
        possible.update(outcomes)
        if plan.manner is not Manner.LEAVES_AT_ONCE and len(outcomes) == 1:
            certain.update(outcomes)
    for outcome, count in counted.items():
        assert certain[outcome] <= count <= possible[outcome], (outcome, certain, counted, possible)
    assert "Traceback" not in proxy.log, proxy.log
    assert "panicked" not in proxy.log, proxy.log
    growth = run.highest_rss(0.66, 1.0) - run.highest_rss(0.33, 0.66)
    assert growth < _GROWTH_BYTES, f"memory grew by {growth / _MIB:.1f} MiB"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_nothing_is_lost_and_nothing_is_left(stack: str, request: pytest.FixtureRequest) -> None:
    seconds: float = request.config.getoption("--chaos-seconds", 60.0)
    seed: int = request.config.getoption("--chaos-seed", 1)
    asyncio.run(chaos(stack, seed, seconds))
