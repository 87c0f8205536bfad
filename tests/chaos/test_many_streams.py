"""Streams that are all open at once, on one worker: no error, and a bounded amount of memory each.

`pytest tests/chaos/test_many_streams.py --streams 5000` for as many as are promised.
"""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

import pytest

from chaos import client
from chaos.conftest import Tell
from chaos.engine import Engine
from chaos.plan import Fault, Manner, Plan
from chaos.test_chaos import settled
from fastwrap import descriptors
from proxy.client import ask
from proxy.conftest import STACKS
from proxy.processes import Proxy

_WAVES = 3
_KIB, _MIB = 1 << 10, 1 << 20
#: What is promised of a stream in any wave, and what its server may take besides.
_STREAM_BYTES, _SERVER_BYTES = 100 * _KIB, 8 * _MIB
#: An own route answers within a second; on a machine that does nothing else.
_PATIENCE_S = 10.0
_OPENING_S = 120.0


def plan(number: int) -> Plan:
    """A stream that nothing befalls."""
    return Plan(number, True, (8,) * 16, 0.0, Fault.NONE, -1, Manner.STAYS, 0, False, 64)


class Waves:
    """Waves of streams through one server.

    Attributes:
        rss_bytes: Before the first wave, and while all streams of each are open.
        own_s: What `/-/healthy` and `/-/metrics` took meanwhile.
    """

    def __init__(self, engine: Engine, proxy: Proxy, streams: int) -> None:
        self.engine, self.proxy, self.streams = engine, proxy, streams
        self.rss_bytes: list[int] = []
        self.own_s: list[float] = []
        self._planned = 0

    async def pass_through(self, streams: int) -> None:
        """Open so many, look at the server when all are, and read them to their ends."""
        address = urlsplit(self.proxy.url)
        plans = [plan(self._planned + number) for number in range(streams)]
        self._planned += streams
        self.engine.gate.clear()
        self.engine.held = 0
        clients = [asyncio.create_task(client.run(one, address.hostname or "", address.port or 0)) for one in plans]
        await self.all_are_open(clients)
        self.rss_bytes.append(self.proxy.rss_bytes)
        await asyncio.to_thread(self.ask_own, streams)
        self.engine.gate.set()
        amiss = [told for told in await asyncio.gather(*clients) if told]
        assert not amiss, f"{len(amiss)} of {streams}: {amiss[:3]}"

    async def all_are_open(self, clients: list[asyncio.Task[str]]) -> None:
        deadline = time.monotonic() + _OPENING_S
        while self.engine.held < len(clients):
            assert time.monotonic() < deadline, f"only {self.engine.held} of {len(clients)} streams have begun"
            ended = [one.result() for one in clients if one.done()]
            assert not ended, f"{len(ended)} streams ended before all had begun: {ended[:3]}"
            await asyncio.sleep(0.05)

    def ask_own(self, in_flight: int) -> None:
        for path in ("/-/healthy", "/-/metrics"):
            began_s = time.monotonic()
            assert ask(self.proxy.url, "GET", path, seconds=_PATIENCE_S).status == 200
            self.own_s.append(time.monotonic() - began_s)
        assert self.proxy.in_flight == in_flight

    def told(self) -> str:
        each = [(open_ - self.rss_bytes[0]) / self.streams / _KIB for open_ in self.rss_bytes[1:]]
        return (
            f"{self.streams:,} streams at once: {each[0]:.1f} KiB each, in later waves "
            f"{', '.join(f'{one:.1f}' for one in each[1:])}; {self.rss_bytes[0] / _MIB:.0f} MiB before, "
            f"{self.proxy.rss_bytes / _MIB:.0f} after; own routes in {max(self.own_s) * 1e3:.0f} ms at most"
        )


async def serve_waves(stack: str, streams: int, tell: Tell) -> None:
    engine = Engine()
    url = await engine.start()
    proxy = await asyncio.to_thread(Proxy, url, *STACKS[stack], "--backend", "vllm")
    try:
        waves = Waves(engine, proxy, streams)
        await waves.pass_through(1)
        open_files = proxy.descriptors
        for _ in range(_WAVES):
            await waves.pass_through(streams)
        await settled(engine, proxy, open_files)
        tell(waves.told())
        before, first, *later = waves.rss_bytes
        assert max(first, *later) - before < streams * _STREAM_BYTES + _SERVER_BYTES
        assert (await asyncio.to_thread(proxy.outcomes))["complete"] == 1 + _WAVES * streams
        assert max(engine.executed.values()) == 1
    finally:
        await asyncio.to_thread(proxy.stop)
        await engine.stop()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_all_are_open_at_once(stack: str, request: pytest.FixtureRequest, tell: Tell) -> None:
    streams: int = request.config.getoption("--streams", 200)
    descriptors.raise_limit()  # of this process, which is all clients and the engine
    asyncio.run(serve_waves(stack, streams, tell))
