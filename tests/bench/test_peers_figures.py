"""Ratios to others than a report's reference, and what becomes of promises."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.conftest import Run
from harness.figures import ratio, read
from harness.measure import Outcome
from harness.promise import PROMISES, verdicts
from harness.scenario import ADDED_P50, ADDED_TTFT, CHUNKS, CPU_CHUNK, CPU_REQUEST, REQUESTS, SCENARIOS, WALL, Figure
from proxies import PROXIES
from proxy.processes import Process


@pytest.mark.parametrize("figure", [ADDED_P50, ADDED_TTFT, REQUESTS, CHUNKS, CPU_CHUNK, CPU_REQUEST, WALL])
def test_a_ratio_is_what_the_report_would_have(measured: dict[str, Any], figure: Figure) -> None:
    assert figure.ratio is not None
    own = ratio(measured, "third", "other", figure)
    without = {**measured, "settings": {**measured["settings"], "reference": None}}
    computed = ratio(without, "third", "other", figure)
    if own is None:  # what adds nothing is no yardstick, here as there
        assert computed is None or figure in (ADDED_P50, ADDED_TTFT)
        return
    assert computed is not None
    assert computed.value == pytest.approx(own.value, rel=1e-3)
    assert computed.low is not None
    assert computed.high is not None
    assert computed.low <= computed.value <= computed.high


@pytest.fixture(scope="module")
def measured(bench: Run, engines: tuple[Process, Process], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report of three ways to the same answers, divided by the second one."""
    file = tmp_path_factory.mktemp("figures") / "report.json"
    first, second = engines
    targets = (f"direct={first.url}", f"other={second.url}", f"third={second.url}")
    pids = ("--pid", f"other={second.process.pid}", "--pid", f"third={second.process.pid}")
    options = ("--mode", "sse", "--rounds", "5", "--duration", "0.1", "--reference", "other", "--json", str(file))
    result = bench(*targets, *pids, *options)
    assert result.returncode == 0, result.stderr
    report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return report


def outcome(scenario: str, **metrics: dict[str, float]) -> Outcome:
    """What a scenario has shown, if the targets have these metrics."""
    targets = [
        {"name": name.replace("_", "-"), "rounds": [], "metrics": {
            metric: {"value": value, "low": None, "high": None} for metric, value in values.items()
        }}
        for name, values in metrics.items()
    ]  # fmt: skip
    return Outcome(SCENARIOS[scenario], {"settings": {"reference": "nginx"}, "targets": targets})


def test_a_promise_is_kept_up_to_its_bound() -> None:
    for least, most in ((0.75, 1.4), (0.74, 1.41)):
        found = {
            "json-c1": outcome("json-c1", direct={}, fastwrap_native={"added_p50_ratio": most}),
            "json-c32": outcome("json-c32", direct={}, fastwrap_native={"requests_per_s_ratio": least}),
            "memory-5000": outcome("memory-5000", direct={}, fastwrap_granian={"rss_per_stream_kib": 100 * most / 1.4}),
        }
        assert [verdict.kept for verdict in verdicts(found, "X")] == [(least, most) == (0.75, 1.4)] * 3
    assert [verdict.promise.scenario for verdict in verdicts(found, "S")] == ["json-c1"]


def test_against_several_the_hardest_counts() -> None:
    rounds = {"direct": 10.0, "fastwrap-native": 30.0, "envoy": 20.0, "smg": 60.0}
    found = outcome("json-c1", **{name.replace("-", "_"): {} for name in rounds})
    for target in found.report["targets"]:
        target["rounds"] = [{"p50_us": rounds[target["name"]]}] * 3
    (verdict,) = verdicts({"json-c1": found}, "S")
    assert (verdict.against, verdict.found.value, verdict.kept) == ("envoy", 2.0, False)


def test_promises_speak_of_what_there_is() -> None:
    for promise in PROMISES:
        assert promise.figure in SCENARIOS[promise.scenario].figures
        assert {promise.proxy, *promise.against} <= PROXIES.keys()
    for scenario in SCENARIOS.values():
        assert {scenario.reference, *scenario.leaves_out} <= PROXIES.keys()


def test_a_metric_that_is_missing_is_none(measured: dict[str, Any]) -> None:
    assert read(measured, "nobody", "p50_us") is None
    assert read(measured, "direct", "added_p50_us") is None
    assert ratio(measured, "third", "nobody", WALL) is None
