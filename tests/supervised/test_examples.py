"""The examples run as they are described."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WITHIN_S = 60.0


def example(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / arguments[0]), *arguments[1:]]
    env = {**os.environ, "COLUMNS": "120", "PYTHONIOENCODING": "utf-8", "FASTWRAP_GPU": "off"}
    return subprocess.run(command, capture_output=True, encoding="utf-8", env=env, timeout=WITHIN_S, check=False)


def rows(table: str) -> dict[str, list[str]]:
    """The rows of a table by their first cell."""
    cells = [[cell.strip() for cell in line.strip("│┃").split("│")] for line in table.splitlines() if "│" in line]
    return {first: rest for first, *rest in cells}


def test_engines_are_compared() -> None:
    done = example("compare_engines.py", "--repeat", "1", "--tokens", "8")
    assert done.returncode == 0, done.stderr
    numbers = rows(done.stdout)
    eager, fluent = map(float, numbers["TTFT, ms"])
    assert eager > 20
    assert fluent > 60
    assert all(float(speed) > 0 for speed in numbers["tokens/s"])
    assert numbers["GPU peak, MiB"] == ["-", "-"], "no GPU was sampled"


@pytest.mark.parametrize("engine", ["bad=sh -c 'exit 3'", "bad=http://127.0.0.1:1/x y"])
def test_an_engine_that_fails_is_said(engine: str) -> None:
    done = example("compare_engines.py", engine)
    assert done.returncode == 1
    assert "Error: fastwrap has ended with 2" in done.stderr
    assert "Traceback" not in done.stderr
