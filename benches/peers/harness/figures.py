"""Figures out of a report of ``fastwrap bench``, and ratios to others than its reference."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from harness.scenario import ADDED_P50, ADDED_TTFT, CHUNKS, CPU_CHUNK, CPU_REQUEST, REQUESTS, WALL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from harness.scenario import Figure

    Series = Sequence[float]

_RESAMPLES = 2000
_MIN_ROUNDS = 3


@dataclass(frozen=True)
class Estimate:
    """A number, and its 95 % confidence interval if there were rounds enough."""

    value: float
    low: float | None
    high: float | None


def target(report: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what the report says of a target."""
    found: dict[str, Any] | None = next((one for one in report["targets"] if one["name"] == name), None)
    return found


def read(report: dict[str, Any], name: str, metric: str) -> Estimate | None:
    """Return one metric of a target, as the report has it."""
    one = target(report, name)
    found = one["metrics"].get(metric) if one else None
    return None if found is None or found["value"] is None else Estimate(found["value"], found["low"], found["high"])


def ratio(report: dict[str, Any], name: str, other: str, figure: Figure) -> Estimate | None:
    """Return a figure of a target divided by another target's.

    What the report divides by is taken from there; for other targets it is computed in the same way, from its rounds.
    """
    if figure.ratio is not None and other == report["settings"]["reference"]:
        return read(report, name, figure.ratio)
    series = _SERIES.get(figure)
    rounds = [one["rounds"] if one else [] for one in (target(report, who) for who in (name, other))]
    baseline = report["targets"][0]["rounds"]
    if series is None or not all(rounds):
        return None
    own, others = ([series(one, base) for one, base in zip(found, baseline, strict=False)] for found in rounds)
    statistic = _ratio_of_medians if figure in (ADDED_P50, ADDED_TTFT) else _median_of_ratios
    return _estimate([pair for pair in zip(own, others, strict=False) if None not in pair], statistic)


def _estimate(pairs: list[Any], statistic: Callable[[list[Any]], float | None]) -> Estimate | None:
    value = statistic(pairs) if pairs else None
    if value is None:
        return None
    if len(pairs) < _MIN_ROUNDS:
        return Estimate(value, None, None)
    chance = random.Random(0)  # noqa: S311 (no secret; the same numbers give the same interval)
    drawn = (statistic(chance.choices(pairs, k=len(pairs))) for _ in range(_RESAMPLES))
    found = sorted(one for one in drawn if one is not None)
    if not found:
        return Estimate(value, None, None)
    last = len(found) - 1
    return Estimate(value, found[round(0.025 * last)], found[round(0.975 * last)])


def _ratio_of_medians(pairs: list[tuple[float, float]]) -> float | None:
    """What is added may be near nothing in a single round."""
    below = median(other for _, other in pairs)
    return median(own for own, _ in pairs) / below if below > 0 else None


def _median_of_ratios(pairs: list[tuple[float, float]]) -> float | None:
    ratios = [own / other for own, other in pairs if other > 0]
    return median(ratios) if ratios else None


def _added(name: str) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    def of(one: dict[str, Any], base: dict[str, Any]) -> float | None:
        return None if one[name] is None or base[name] is None else one[name] - base[name]

    return of


def _per(amount: str, of: str, scale: float = 1.0) -> Callable[[dict[str, Any], dict[str, Any]], float | None]:
    def quotient(one: dict[str, Any], _base: dict[str, Any]) -> float | None:
        return None if one[amount] is None or not one[of] else scale * one[amount] / one[of]

    return quotient


#: How a round gives a figure, where it does.
_SERIES: dict[Figure, Callable[[dict[str, Any], dict[str, Any]], float | None]] = {
    ADDED_P50: _added("p50_us"),
    ADDED_TTFT: _added("ttft_p50_us"),
    REQUESTS: _per("requests", "elapsed_s"),
    CHUNKS: _per("chunks", "elapsed_s"),
    CPU_CHUNK: _per("cpu_s", "chunks", 1e6),
    CPU_REQUEST: _per("cpu_s", "requests", 1e6),
    WALL: lambda one, _base: one["p50_us"],
}
