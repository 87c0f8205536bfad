"""What was found, as tables: for the terminal, and in Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.table import Table as RichTable
from rich.text import Text

from harness.figures import Estimate, ratio, read
from harness.measure import DIRECT
from harness.promise import verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from harness.measure import Outcome
    from harness.scenario import Figure

_NONE = "–"
#: From here on a number needs no digit behind the point, one, and two.
_WHOLE, _TENTHS, _HUNDREDTHS = 100.0, 10.0, 0.1


def scenario_table(outcome: Outcome, names: Sequence[str]) -> RichTable:
    """Return one scenario's table, for the terminal."""
    return _rich(_scenario(outcome, names))


def promise_table(outcomes: Mapping[str, Outcome], placement: str) -> RichTable:
    """Return what became of the promises, for the terminal."""
    return _rich(_promises(outcomes, placement))


def markdown(outcomes: Mapping[str, Outcome], names: Sequence[str], placement: str) -> str:
    """Return the tables of a record: what matters most of each scenario, the promises, then all figures."""
    tables = [_summary(outcomes, names), _promises(outcomes, placement)]
    tables += [_scenario(outcome, names) for outcome in outcomes.values()]
    return "\n".join(_markdown(table) for table in tables)


@dataclass(frozen=True)
class _Table:
    """A table; its first column, and its last one if that has no heading, hold text."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


def _summary(outcomes: Mapping[str, Outcome], names: Sequence[str]) -> _Table:
    columns = [(outcome, outcome.scenario.figures[0]) for outcome in outcomes.values()]
    heads = ["", *(f"{outcome.scenario.name}: {figure.heading}" for outcome, figure in columns)]
    return _Table(
        heads, [[name, *(_both(outcome, name, figure) for outcome, figure in columns)] for name in (DIRECT, *names)]
    )


def _scenario(outcome: Outcome, names: Sequence[str]) -> _Table:
    scenario = outcome.scenario
    divided = [(figure.heading, *([f"÷ {scenario.reference}"] if figure.ratio else [])) for figure in scenario.figures]
    heads = [scenario.name, *(head for pair in divided for head in pair), ""]
    rows = []
    for name in (DIRECT, *names):
        cells = [name]
        for figure in scenario.figures:
            cells.append(_level(outcome, name, figure))
            if figure.ratio:
                cells.append(_ratio(outcome, name, figure))
        rows.append([*cells, outcome.absent.get(name) or outcome.notes.get(name, "")])
    return _Table(heads, rows)


def _promises(outcomes: Mapping[str, Outcome], placement: str) -> _Table:
    rows = []
    for verdict in verdicts(outcomes, placement):
        promise = verdict.promise
        sign = "≥" if promise.at_least else "≤"
        rows.append([
            promise.proxy,
            f"{promise.scenario}: {promise.figure.heading}",
            verdict.against or _NONE,
            _interval(verdict.found, " ×" if verdict.against else ""),
            f"{sign} {number(promise.must)}",
            _NONE if promise.aim is None else f"{sign} {number(promise.aim)}",
            "kept" if verdict.kept else "not kept",
        ])  # fmt: skip
    return _Table(["promised", "figure", "against", "found", "must", "aim", ""], rows)


def _rich(table: _Table) -> RichTable:
    rich = RichTable(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, head in enumerate(table.heads):
        text = not index or not head
        rich.add_column(head, justify="left" if text else "right", no_wrap=head.startswith("÷"))
    for row in table.rows:
        rich.add_row(*map(Text, row))
    return rich


def _markdown(table: _Table) -> str:
    lines = [table.heads, ["---"] * len(table.heads), *table.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


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
    if abs(value) >= _HUNDREDTHS:
        return f"{value:.1f}" if abs(value) >= _TENTHS else f"{value:.2f}"
    return f"{value:.2g}"
