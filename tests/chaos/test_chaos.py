"""Everything goes wrong at once, for a minute; for an hour with `--chaos-seconds 3600 --chaos-seed 7`.

At the end nothing is left behind, and every request has ended once, in a way that its plan allows.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from pathlib import Path
from statistics import linear_regression
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from chaos import client
from chaos.conftest import Tell
from chaos.engine import Engine
from chaos.plan import IDLE_S, Manner, Plan
from proxy.conftest import STACKS
from proxy.processes import Proxy

_SETTLING_S = 20.0
_MIB = 1 << 20
#: How often memory and descriptors are looked at in a run, however long it is.
_SAMPLES = 300
#: What memory may grow by between the second and the last third of a minute, allocators being what they are.
_GROWTH_BYTES = 12 * _MIB
#: A third of the clients' requests in three seconds, the longest that a request takes.
_REQUESTS_A_CLIENT_SECOND = 0.4
#: What libraries keep open from their first use on.
_SPARE_DESCRIPTORS = 2
_OPTIONS = ("--backend", "vllm", "--idle-timeout", f"{IDLE_S}", "--first-byte-timeout", f"{IDLE_S}")


class Sample(NamedTuple):
    """What the server's processes hold."""

    share: float
    rss_bytes: int
    descriptors: int


class Run:
    """What was planned, and what came of it.

    Attributes:
        planned: How many requests.
        answered: Those of which a client waits for the end.
        certain: How many must have ended in each way,
        possible: and how many may.
    """

    def __init__(self, seed: int, seconds: float, clients: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 (not a secret)
        self.began_s = time.monotonic()
        self.seconds, self.clients = seconds, clients
        self.planned = 0
        self.answered: set[int] = set()
        self.sure = 0
        self.certain, self.possible = Counter[str](), Counter[str]()
        self.amiss: list[str] = []
        self.samples: list[Sample] = []

    @property
    def share(self) -> float:
        return (time.monotonic() - self.began_s) / self.seconds

    def plan(self) -> Plan | None:
        if self.share >= 1:
            return None
        plan = Plan.drawn(self.planned, self.dice)
        self.planned += 1
        if not plan.leaves:
            self.answered.add(plan.number)
        self.possible.update(plan.outcomes)
        if plan.manner is not Manner.LEAVES_AT_ONCE:  # a request whose client was gone before it was read is none
            self.sure += 1
            self.certain.update(plan.outcomes if len(plan.outcomes) == 1 else ())
        return plan

    async def be_client(self, proxy: Proxy) -> None:
        address = urlsplit(proxy.url)
        while (plan := self.plan()) is not None:
            amiss = await client.run(plan, address.hostname or "", address.port or 0)
            if amiss:
                self.amiss.append(f"{plan}\n{amiss}")

    async def watch(self, proxy: Proxy) -> None:
        while self.share < 1:
            self.samples.append(Sample(self.share, proxy.rss_bytes, proxy.descriptors))
            await asyncio.sleep(self.seconds / _SAMPLES)

    def highest_rss(self, start: float, end: float) -> int:
        return max(sample.rss_bytes for sample in self.samples if start <= sample.share < end)

    def told(self, counted: dict[str, int]) -> str:
        """What came of it, in a line; slopes by least squares over the second half."""
        late = [sample for sample in self.samples if sample.share >= 0.5]
        hours = [sample.share * self.seconds / 3600 for sample in late]
        rss = linear_regression(hours, [sample.rss_bytes / _MIB for sample in late])
        descriptors = linear_regression(hours, [sample.descriptors for sample in late])
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counted.items())
        return (
            f"{self.planned:,} requests by {self.clients} clients in {self.seconds:,.0f} s: {outcomes}; "
            f"RSS {late[-1].rss_bytes / _MIB:.1f} MiB, {rss.slope:+.2f} MiB/hour; "
            f"{late[-1].descriptors} descriptors, {descriptors.slope:+.1f}/hour"
        )


def count_threads(proxy: Proxy) -> int:
    return sum(len(list(Path(f"/proc/{pid}/task").iterdir())) for pid in proxy.pids)


async def settled(engine: Engine, proxy: Proxy, descriptors: int) -> None:
    """Nothing is in flight, no connection is open."""
    deadline = time.monotonic() + _SETTLING_S
    while True:
        in_flight = await asyncio.to_thread(lambda: proxy.in_flight)
        left = (in_flight, engine.connections, max(proxy.descriptors - descriptors - _SPARE_DESCRIPTORS, 0))
        if not any(left):
            return
        assert time.monotonic() < deadline, f"left behind: in flight, connections to the engine, descriptors: {left}"
        await asyncio.sleep(0.05)


async def chaos(stack: str, seed: int, seconds: float, clients: int, tell: Tell) -> None:
    engine = Engine()
    url = await engine.start()
    proxy = await asyncio.to_thread(Proxy, url, *STACKS[stack], *_OPTIONS)
    try:
        await settled(engine, proxy, proxy.descriptors)
        descriptors, threads = proxy.descriptors, count_threads(proxy)
        run = Run(seed, seconds, clients)
        await asyncio.gather(run.watch(proxy), *(run.be_client(proxy) for _ in range(clients)))
        await settled(engine, proxy, descriptors)
        assert count_threads(proxy) <= threads
        counted = await asyncio.to_thread(proxy.outcomes)
        tell(run.told(counted))
        await asyncio.to_thread(check, run, engine, proxy, counted)
    finally:
        await asyncio.to_thread(proxy.stop)
        await engine.stop()


def check(run: Run, engine: Engine, proxy: Proxy, counted: dict[str, int]) -> None:
    assert not run.amiss, f"{len(run.amiss)} of {run.planned}:\n" + "\n\n".join(run.amiss[:10])
    assert run.planned > _REQUESTS_A_CLIENT_SECOND * run.clients * run.seconds
    # The engine has executed nothing twice, and everything that a client has an answer to.
    assert max(engine.executed.values()) == 1
    assert run.answered <= engine.executed.keys()
    assert run.sure <= sum(counted.values()) <= run.planned
    for outcome, count in counted.items():
        assert run.certain[outcome] <= count <= run.possible[outcome], (outcome, run.certain, counted, run.possible)
    assert "Traceback" not in proxy.log, proxy.log
    assert "panicked" not in proxy.log, proxy.log
    growth = run.highest_rss(0.66, 1.0) - run.highest_rss(0.33, 0.66)
    assert growth < _GROWTH_BYTES, f"memory grew by {growth / _MIB:.1f} MiB"


@pytest.mark.timeout(0)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_nothing_is_lost_and_nothing_is_left(stack: str, request: pytest.FixtureRequest, tell: Tell) -> None:
    seconds: float = request.config.getoption("--chaos-seconds", 60.0)
    seed: int = request.config.getoption("--chaos-seed", 1)
    clients: int = request.config.getoption("--chaos-clients", 48)
    asyncio.run(chaos(stack, seed, seconds, clients, tell))
