"""Which process runs on which CPU."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from harness.proxy import UnavailableError


@dataclass(frozen=True)
class Placement:
    """A way to share the CPUs.

    Attributes:
        name: S or X.
        load_cpu: Where the load generator and the engine run.
        proxy_cpu: Where the proxies run.
    """

    name: str
    load_cpu: int
    proxy_cpu: int

    @property
    def about(self) -> str:
        """What it is, in a line."""
        if self.load_cpu == self.proxy_cpu:
            return f"{self.name}: load, engine and proxy on one CPU ({self.load_cpu})"
        return f"{self.name}: load and engine on one CPU ({self.load_cpu}), the proxy on another one ({self.proxy_cpu})"


#: S shows the code: nobody waits for another virtual CPU to wake up. X is how a sidecar runs.
PLACEMENTS = ("S", "X")


def placement(name: str) -> Placement:
    """Return a placement on the CPUs that may be used.

    Raises:
        UnavailableError: If this system cannot keep processes on CPUs, or has too few.
    """
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        raise UnavailableError(
            "processes are kept on their CPUs by taskset (Linux, package util-linux), which is absent"
        )
    cpus = sorted(os.sched_getaffinity(0))
    if name == "S":
        return Placement(name, cpus[0], cpus[0])
    if len(cpus) == 1:
        raise UnavailableError("the placement X needs two CPUs, and one may be used")
    return Placement(name, cpus[0], cpus[1])
