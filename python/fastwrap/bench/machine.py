"""Where and with what a run was made: numbers mean nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from fastwrap import _native


def describe() -> dict[str, Any]:
    """Return machine and versions, for the report."""
    return {
        "machine": {
            "cpu": _cpu(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
            "cpus_allowed": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "load_average": list(os.getloadavg()),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"fastwrap": _native.__version__, "python": platform.python_version()},
    }


def _cpu() -> str:
    """The processor's name as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor()
