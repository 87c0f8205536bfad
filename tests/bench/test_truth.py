"""Ground truth: counts are exact for every engine on both servers. How far off times are is a bench's affair."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import truth
from fastwrap.simulation import FLAVORS
from proxy.processes import DEADLINE_S

_COMMAND = Path(__file__).parents[2] / "benches" / "peers" / "truth.py"


@pytest.mark.skipif(shutil.which("taskset") is None, reason="needs taskset")
def test_every_engine_is_compared_with_its_stamps_on_both_servers() -> None:
    command = [sys.executable, str(_COMMAND), "--requests", "1", "--no-check"]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=4 * DEADLINE_S, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = re.findall(r"^\| (\S+) \| (native|granian) \|(?: [+-]?[\d.]+%? \|){6} 0 \|$", result.stdout, re.MULTILINE)
    assert set(rows) >= {(flavor, server) for flavor in FLAVORS for server in ("native", "granian")}


def event(sent_ns: int, **delta: object) -> truth.Json:
    return {"sent_ns": sent_ns, "choices": [{"index": 0, "delta": delta}]}


def test_the_truth_is_told_by_the_events_that_have_text() -> None:
    call = {"tool_calls": [{"function": {"arguments": "{"}}]}
    events = [event(2_000_000, role="assistant", content=""), event(4_000_000, reasoning="a"), event(7_000_000, **call)]
    events.append({"sent_ns": 8_000_000, "choices": [], "usage": {}})
    assert truth.truth_of(events, 1_000_000, 4) == truth.Truth(ttft_ms=3.0, latency_ms=7.0, tpot_ms=1.0)


def test_each_choice_has_a_pace_of_its_own() -> None:
    events = [{**event(at * 1_000_000, content="a"), "n": n} for at, n in ((1, 0), (2, 1), (5, 0), (8, 1))]
    for one in events:
        one["choices"][0]["index"] = one["n"]
    assert truth.truth_of(events, 0, 4).tpot_ms == (4 + 6) / 2


@pytest.mark.parametrize(
    ("said", "keeps"),
    [
        ({}, True),
        ({"ttft_ms": 20.4}, False),
        ({"latency_ms": 49.5}, False),
        ({"tpot_ms": 2.03}, False),
        ({"completion_tokens": 17}, False),
        ({"tpot_ms": None, "unavailable": {"tpot_ms": "several_choices"}}, True),
    ],
)
def test_a_number_that_is_off_is_a_failure(said: truth.Json, keeps: bool) -> None:
    differences = truth.Differences()
    block = {"ttft_ms": 20.1, "latency_ms": 50.1, "tpot_ms": 2.01, "completion_tokens": 16} | said
    differences.add(block, truth.Truth(ttft_ms=20.0, latency_ms=50.0, tpot_ms=2.0), 16)
    assert differences.keeps is keeps
