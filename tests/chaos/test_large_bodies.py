"""Large bodies that come at once: each is whole at the engine, and what fastwrap takes for them is bounded.

`pytest tests/chaos/test_large_bodies.py --body-mib 64` for as many bytes as are allowed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos.conftest import Tell
from proxy.blocks import block_of
from proxy.client import CHAT, ask
from proxy.conftest import STACKS
from proxy.processes import Process, Proxy

_MIB = 1 << 20
_BODIES = 8
#: What each takes beside its bytes: the buffers of two connections, and a piece on its way.
_PASSING_BYTES = 4 * _MIB
#: Under Granian a measured body is collected whole, in memory that grows with it.
_COPIES = 1.5


def peak_bytes(proxy: Proxy) -> int:
    """The most resident memory that its processes have had."""
    statuses = [Path(f"/proc/{pid}/status").read_text().splitlines() for pid in proxy.pids]
    return sum(int(line.split()[1]) << 10 for status in statuses for line in status if line.startswith("VmHWM"))


def request_of(mib: int) -> Iterator[bytes]:
    """A chat of so many MiB, a MiB at a time."""
    yield b'{"model":"tiny","stream":true,"messages":[{"role":"user","content":"'
    for _ in range(mib - 1):
        yield b"a" * _MIB
    yield b'"}]}'


@pytest.fixture(scope="module")
def engine() -> Iterator[Process]:
    process = Process("engine", "--ttft-ms", "0", "--itl-ms", "0", "--tokens", "2")
    yield process
    process.stop()


@pytest.mark.timeout(0)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_all_come_at_once(stack: str, engine: Process, request: pytest.FixtureRequest, tell: Tell) -> None:
    mib: int = request.config.getoption("--body-mib", 8)
    proxy = Proxy(engine.url, *STACKS[stack], "--backend", "vllm")
    try:
        ask(proxy.url, "POST", CHAT, body=request_of(2))
        before_bytes = peak_bytes(proxy)
        together = threading.Barrier(_BODIES)

        def send(_: int) -> None:
            together.wait()
            answer = ask(proxy.url, "POST", CHAT, body=request_of(mib), seconds=300.0)
            assert answer.status == 200, answer
            assert block_of(answer)["outcome"] == "complete"

        with ThreadPoolExecutor(_BODIES) as pool:
            list(pool.map(send, range(_BODIES)))
        grown_bytes = peak_bytes(proxy) - before_bytes
        tell(f"{_BODIES} bodies of {mib} MiB at once: {grown_bytes / _MIB:.0f} MiB more at most")
        kept_bytes = _COPIES * mib * _MIB if stack.startswith("granian") else 0
        assert grown_bytes < _BODIES * (kept_bytes + _PASSING_BYTES)
    finally:
        proxy.stop()
