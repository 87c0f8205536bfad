"""What was found, as tables: for the terminal, and in Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from harness.figures import Estimate, ratio, read
from harness.measure import DIRECT
from harness.promise import verdicts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.measure import Outcome
    from harness.proxy import Proxy
    from harness.scenario import Figure

_NONE = "–"
#: From here on a number needs no digit behind the point, and one.
_WHOLE, _TENTHS = 100.0, 10.0


def scenario_table(outcome: Outcome, proxies: Sequence[Proxy]) -> Table:
    """Return one scenario's table, for the terminal."""
    scenario = outcome.scenario
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), title_justify="left")
    table.add_column(scenario.name, no_wrap=True)
    for figure in scenario.figures:
        table.add_column(figure.heading, justify="right")
        if figure.ratio:
            table.add_column(f"÷ {scenario.reference}", justify="right", no_wrap=True)
    table.add_column("", overflow="fold", style="dim")
    for name in (DIRECT, *(proxy.name for proxy in proxies)):
        cells: list[str] = []
        for figure in scenario.figures:
            cells.append(_level(outcome, name, figure))
            if figure.ratio:
                cells.append(_ratio(outcome, name, figure))
        table.add_row(name, *cells, Text(outcome.absent.get(name) or outcome.notes.get(name, "")))
    return table


def promise_table(outcomes: Mapping[str, Outcome], placement: str) -> Table:
    """Return what became of the promises, for the terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in _PROMISE_COLUMNS:
        table.add_column(column)
    for cells in _promises(outcomes, placement):
        table.add_row(*cells)
    return table


def markdown(outcomes: Mapping[str, Outcome], proxies: Sequence[Proxy], placement: str) -> str:
    """Return the tables of a record: all figures of all proxies, the promises, and what was amiss."""
    columns = [(outcome, figure) for outcome in outcomes.values() for figure in outcome.scenario.figures]
    heads = ["", *(f"{outcome.scenario.name}: {figure.heading}" for outcome, figure in columns)]
    names = (DIRECT, *(proxy.name for proxy in proxies))
    rows = [[name, *(_both(outcome, name, figure) for outcome, figure in columns)] for name in names]
    parts = [_table(heads, rows)]
    promises = list(_promises(outcomes, placement))
    if promises:
        parts.append(_table([*_PROMISE_COLUMNS], promises))
    amiss = [*_amiss(outcomes)]
    if amiss:
        parts.append("\n".join(amiss) + "\n")
    return "\n".join(parts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _amiss(outcomes: Mapping[str, Outcome]) -> Iterator[str]:
    for name, outcome in outcomes.items():
        for proxy, reason in (outcome.absent | outcome.notes).items():
            yield f"- {name}, {proxy}: {reason}"


_PROMISE_COLUMNS = ("", "figure", "against", "found", "must", "aim", "")


def _promises(outcomes: Mapping[str, Outcome], placement: str) -> Iterator[list[str]]:
    for verdict in verdicts(outcomes, placement):
        promise = verdict.promise
        sign = "≥" if promise.at_least else "≤"
        yield [
            promise.proxy,
            f"{promise.scenario}: {promise.figure.heading}",
            verdict.against or _NONE,
            _interval(verdict.found, " ×" if verdict.against else ""),
            f"{sign} {number(promise.must)}",
            _NONE if promise.aim is None else f"{sign} {number(promise.aim)}",
            "kept" if verdict.kept else "not kept",
        ]


def _both(outcome: Outcome, name: str, figure: Figure) -> str:
    level, divided = _level(outcome, name, figure), _ratio(outcome, name, figure)
    return level if divided in ("", _NONE, "1") else f"{level} ({divided})"


def _level(outcome: Outcome, name: str, figure: Figure) -> str:
    if name == DIRECT and figure.metric.startswith("added_"):
        # What the others add to.
        found = read(outcome.report, name, figure.metric.removeprefix("added_"))
        return _NONE if found is None else f"[{number(found.value)}]"
    found = read(outcome.report, name, figure.metric)
    return _NONE if found is None else number(found.value)


def _ratio(outcome: Outcome, name: str, figure: Figure) -> str:
    reference = outcome.scenario.reference
    if name == DIRECT or outcome.report["settings"]["reference"] != reference:
        return _NONE
    if name == reference:
        return "1"
    found = ratio(outcome.report, name, reference, figure)
    return _NONE if found is None else _interval(found, " ×")


def _interval(found: Estimate, unit: str) -> str:
    if found.low is None or found.high is None:
        return f"{number(found.value)}{unit}"
    return f"{number(found.value)}{unit}, {number(found.low)}–{number(found.high)}"


def number(value: float) -> str:
    """Write a number with three digits or so."""
    if float(value).is_integer() or abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _TENTHS else f"{value:.2f}"
