"""The command as a user runs it, and engines for it to drive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from proxy.processes import DEADLINE_S, Process

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def bench() -> Run:
    """Runs `fastwrap bench` to its end."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fastwrap.bench", *arguments],
            env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
            capture_output=True,
            encoding="utf-8",
            timeout=3 * DEADLINE_S,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def engines() -> Iterator[tuple[Process, Process]]:
    """Two engines that answer the same."""
    first, second = Process("engine"), Process("engine")
    yield first, second
    first.stop()
    second.stop()


@pytest.fixture(scope="session")
def stranger() -> Iterator[Process]:
    """An engine that answers something else."""
    process = Process("engine", "--seed", "1")
    yield process
    process.stop()


@pytest.fixture
def pair(engines: tuple[Process, Process]) -> tuple[str, str]:
    """The two engines as targets."""
    first, second = engines
    return f"direct={first.url}", f"other={second.url}"
