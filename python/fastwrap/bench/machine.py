"""Where and with what a run was made: numbers mean nothing without it."""

from __future__ import annotations

import os
import platform
import subprocess
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
            "cpus_allowed": sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
            "load_average": list(os.getloadavg()),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"fastwrap": _native.__version__, "commit": _commit(), "python": platform.python_version()},
    }


def _commit() -> str | None:
    """The commit of the checkout that this runs from, marked if it was changed; None if it is installed."""
    root = Path(__file__).parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 (nobody else's words)
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _cpu() -> str:
    """The processor's name as Linux knows it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return names[0] if names else platform.processor()
