"""A simulated engine to be killed: told a port and a pace, it is born there, and says its process and its port.

It is forked from a process that has everything loaded: a start from nothing takes a hundred times as long.
"""

from __future__ import annotations

import os
import signal
import sys

from fastwrap import _native


def live(port: int, itl_ms: float) -> None:
    """Serve until the end."""
    _native.serve_engine(
        host="127.0.0.1",
        port=port,
        flavor="vllm",
        ttft_ms=itl_ms,
        itl_ms=itl_ms,
        tokens=1_000_000,  # or as many as are asked for
        tokens_per_chunk=1,
        seed=0,
        model="m",
        on_ready=lambda chosen: os.write(1, b"%d %d\n" % (os.getpid(), chosen)),
    )


mother, child = os.getpid(), 0
for line in sys.stdin:
    if child:
        os.waitpid(child, 0)  # until then it may still have the port
    wanted_port, pace_ms = line.split()
    child = os.fork()
    if not child:
        try:
            live(int(wanted_port), float(pace_ms))
        finally:
            os.kill(mother, signal.SIGKILL)  # whoever waits for a word is not to wait for ever
            os._exit(1)
