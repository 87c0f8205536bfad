"""The grammar of `--fail-if`."""

from __future__ import annotations

from typing import Any

import pytest

from fastwrap.bench.condition import ConditionError, parse

TARGETS = ("direct", "fastwrap-1.2", "nginx")


def report(**values: float | None) -> dict[str, Any]:
    """A report in which the targets have these values of `added_p50_us` or `p50_us`."""

    def metrics(value: float | None) -> dict[str, Any]:
        found = None if value is None else {"value": value, "low": None, "high": None}
        return {"added_p50_us": found, "p50_us": found, "added_p50_ratio": found}

    targets = [{"name": name.replace("_", "-"), "metrics": metrics(value)} for name, value in values.items()]
    return {"settings": {"baseline": "direct", "reference": "nginx"}, "targets": targets}


@pytest.mark.parametrize(
    ("text", "failing"),
    [
        ("p50_us > 10", ["other", "nginx"]),
        ("p50_us>=10", ["direct", "other", "nginx"]),
        ("p50_us < 2e1", ["direct", "other"]),
        ("p50_us == 20", ["nginx"]),
        ("p50_us != 20.0", ["direct", "other"]),
        ("p50_us <= -1", []),
        ("direct.p50_us < 11", ["direct"]),
        # The baseline adds nothing, and the reference is not divided by itself.
        ("added_p50_us > 1", ["other", "nginx"]),
        ("added_p50_ratio > 1", ["other"]),
    ],
)
def test_conditions(text: str, failing: list[str]) -> None:
    condition = parse(text, ("direct", "other", "nginx"))
    reasons = condition.holds(report(direct=10.0, other=15.0, nginx=20.0))
    assert [reason.split(": ")[1].split()[0] for reason in reasons] == failing


def test_a_missing_number_has_failed() -> None:
    reasons = parse("p50_us > 10", ("direct", "other")).holds(report(direct=1.0, other=None))
    assert len(reasons) == 1
    assert "too few answers" in reasons[0]


def test_a_targets_name_may_hold_points() -> None:
    condition = parse("fastwrap-1.2.p50_us > 1", TARGETS)
    assert (condition.target, condition.metric, condition.limit) == ("fastwrap-1.2", "p50_us", 1.0)


@pytest.mark.parametrize(
    "text",
    ["", "p50_us", "p50_us >", "> 5", "p50_us > x", "p50_us > 5 or 1", "p50_us = 5", "5 < p50_us", "p50_us > nan"],
)
def test_what_is_no_condition_says_how_one_is_written(text: str) -> None:
    with pytest.raises(ConditionError, match="METRIC OPERATOR NUMBER"):
        parse(text, TARGETS)
