"""``--fail-if``: a metric, a comparison, a number, and nothing else that could be executed."""

from __future__ import annotations

import difflib
import math
import operator
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastwrap import _native

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_FORM = re.compile(
    r"\s*(?:(?P<target>.+)\.)?(?P<metric>[a-z][a-z0-9_]*)\s*(?P<sign><=|>=|==|!=|<|>)\s*(?P<number>[^\s]+)\s*"
)


class ConditionError(ValueError):
    """A condition cannot be read, or speaks of what is not measured; says what could be."""


@dataclass(frozen=True)
class Condition:
    """When a run has failed.

    Attributes:
        text: As it was written.
        target: The target it speaks of; None for all that have the metric.
        metric: One of ``_native.bench_metrics()``.
        sign: The comparison.
        limit: What is compared with.
    """

    text: str
    target: str | None
    metric: str
    sign: str
    limit: float

    def holds(self, report: dict[str, Any]) -> list[str]:
        """Return why the run has failed, a line for each target; nothing if it has not.

        A number that is missing has failed, too: nobody knows that it is small enough.
        """
        reasons = []
        for target in report["targets"]:
            if not self._concerns(target["name"], report["settings"]):
                continue
            found = target["metrics"].get(self.metric)
            if found is None:
                reasons.append(
                    f"{self.text}: {target['name']} has no {self.metric}: too few answers for it (see --duration, "
                    "--rounds), or it is not measured like this (see --mode, --transit, --pid, --reference)"
                )
            elif _OPERATORS[self.sign](found["value"], self.limit):
                reasons.append(f"{self.text}: {target['name']} has {found['value']:.6g}")
        return reasons

    def _concerns(self, name: str, settings: dict[str, Any]) -> bool:
        if self.target is not None:
            return name == self.target
        # Nobody is compared with itself.
        if self.metric.endswith("_ratio") and name == settings["reference"]:
            return False
        return not (is_comparison(self.metric) and name == settings["baseline"])


def is_comparison(metric: str) -> bool:
    """Whether a metric compares a target with another."""
    return metric.startswith("added_") or metric.endswith("_ratio")


def parse(text: str, targets: Sequence[str]) -> Condition:
    """Read a condition.

    Args:
        text: ``METRIC OPERATOR NUMBER``, or ``TARGET.METRIC OPERATOR NUMBER``.
        targets: The names of the targets.

    Raises:
        ConditionError: If it is none.
    """
    if text == "help":
        raise ConditionError(f"the metrics are:\n{_listed()}")
    found = _FORM.fullmatch(text)
    try:
        limit = float(found["number"]) if found else float("nan")
    except ValueError:
        limit = float("nan")
    if found is None or math.isnan(limit):
        raise ConditionError(
            f"{text!r} is no condition: write METRIC OPERATOR NUMBER, as in 'added_p99_us > 500' or "
            f"'NAME.p50_us >= 1e3'; operators are {' '.join(_OPERATORS)}"
        )
    metric, target = found["metric"], found["target"]
    metrics = _native.bench_metrics()
    if metric not in metrics:
        near = difflib.get_close_matches(metric, metrics, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConditionError(f"there is no metric {metric!r}; {hint}The metrics are:\n{_listed()}")
    if target is not None and target not in targets:
        raise ConditionError(f"there is no target {target!r}; they are {', '.join(targets)}")
    if is_comparison(metric) and len(targets) < 2:  # noqa: PLR2004 (two can be compared)
        raise ConditionError(
            f"{metric} compares targets, and there is only one: name the baseline first, then the other"
        )
    return Condition(text, target, metric, found["sign"], limit)


def _listed() -> str:
    return ", ".join(_native.bench_metrics())
