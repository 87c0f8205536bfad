"""The report as tables: the same rows for the terminal and for the page."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table as RichTable
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_QUANTILES = (("p50", "p50"), ("p90", "p90"), ("p99", "p99"), ("p99.9", "p999"))
_TIMED = (
    ("Latency, µs", ""),
    ("Time to first content, µs", "ttft_"),
    ("Between chunks, µs", "icl_"),
    ("Chunk transit, µs", "transit_"),
)
_THROUGHPUT = (
    ("requests/s", "requests_per_s"),
    ("chunks/s", "chunks_per_s"),
    ("answers", "requests"),
    ("errors", "errors"),
)
_COST = (
    ("CPU µs/request", "cpu_us_per_request"),
    ("CPU µs/chunk", "cpu_us_per_chunk"),
    ("CPUs busy", "cpu_cores"),
    ("RSS, MiB", "rss_mib"),
    ("KiB/stream", "rss_per_stream_kib"),
    ("generator's CPUs", "generator_cpu_cores"),
)
#: What is later than this has been held up by the generator itself.
_LATE_US = 1000.0
#: Who uses more of its one CPU than this is what limits.
_BUSY = 0.9
#: From here on a number needs no digit behind the point, and one.
_WHOLE, _TENTHS = 100.0, 10.0


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: What it is about.
        cells: Its numbers, as text.
        main: Whether it opens a target, and is not one of its comparisons.
    """

    label: str
    cells: tuple[str, ...]
    main: bool


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: What its numbers are.
        columns: The headings over the cells.
        rows: Its lines.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def tables(report: dict[str, Any]) -> list[Table]:
    """Return the tables of a report, without those that would be empty."""
    settings, targets = report["settings"], report["targets"]
    reference = settings["reference"]
    base = reference or settings["baseline"]
    found = []
    for title, stem in _TIMED:
        kinds = [("", f"{stem}{{}}_us"), ("  added", f"added_{stem}{{}}_us"), (f"  ÷ {base}", f"{stem}{{}}_ratio")]
        if reference is not None:
            kinds.append((f"  added ÷ {reference}'s", f"added_{stem}{{}}_ratio"))
        found.append(_table(title, _QUANTILES, kinds, targets))
    kinds = [("", "{}"), (f"  ÷ {base}", "{}_ratio")]
    found.append(_table("Throughput", _THROUGHPUT, kinds, targets))
    found.append(_table("Cost", _COST, kinds, targets))
    return [table for table in found if table.rows]


def _table(
    title: str,
    columns: Sequence[tuple[str, str]],
    kinds: Sequence[tuple[str, str]],
    targets: Sequence[dict[str, Any]],
) -> Table:
    names = [name for _, name in columns]
    used = [any(target["metrics"].get(kinds[0][1].format(name)) for target in targets) for name in names]
    rows = []
    for target in targets:
        for label, form in kinds:
            signed = form.startswith("added") and form.endswith("us")
            metrics = [target["metrics"].get(form.format(name)) for name in names]
            if any(metrics):
                cells = tuple(_cell(metric, signed) for metric, keep in zip(metrics, used, strict=True) if keep)
                rows.append(Row(label or target["name"], cells, main=not label))
    headings = tuple(heading for (heading, _), keep in zip(columns, used, strict=True) if keep)
    return Table(title, headings, tuple(rows) if headings else ())


def _cell(estimate: dict[str, float | None] | None, signed: bool) -> str:
    if estimate is None or estimate["value"] is None:
        return ""
    value, low, high = estimate["value"], estimate["low"], estimate["high"]
    text = f"{'+' if signed and value >= 0 else ''}{_number(value)}"
    if low is None or high is None:
        return text
    return f"{text} ±{_number(max(high - value, value - low))}"


def _number(value: float) -> str:
    if value.is_integer() or abs(value) >= _WHOLE:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= _TENTHS else f"{value:.2f}"


def describe(settings: dict[str, Any]) -> str:
    """Return in a sentence what was done."""
    load = settings["load"]
    how = (
        f"closed loop, {load['concurrency']:,} connection(s)"
        + (f" that begin within {settings['ramp_s']:g} s" if settings["ramp_s"] else "")
        if load["loop"] == "closed"
        else f"open loop, {load['rate']:g} requests/s, {load['arrivals']} arrivals, latency from the intended start"
    )
    body = f" with {json.dumps(settings['body'])}" if settings["body"] else ""
    return (
        f"{settings['mode'].upper()} from {settings['path']}, model {settings['model']}, requests of "
        f"{settings['request_bytes']:,} bytes{body}; {how}; {settings['rounds']} round(s) of "
        f"{settings['duration_s']:g} s a target, interleaved, seed {settings['seed']}"
    )


LEGEND = (
    "Medians over rounds ± the wider half of their 95 % confidence interval (bootstrap over rounds; from 3 rounds on); "
    "differences and ratios are taken within each round."
)


def warnings(report: dict[str, Any]) -> Iterator[str]:
    """Yield what a reader must know before believing the numbers."""
    if report["settings"]["transit"] and not any(target["metrics"]["transit_p50_us"] for target in report["targets"]):
        yield "no event came with a stamp of this machine's clock: --transit needs fastwrap engine, on this machine"
    for target in report["targets"]:
        if target["errors"]:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in target["errors"].items())
            share = target["metrics"]["error_percent"]["value"]
            yield f"{target['name']}: {share:.3g} % of the answers do not count: {kinds}"
        late = target["metrics"]["late_p99_us"]
        if late is not None and late["value"] > _LATE_US:
            yield (
                f"{target['name']}: the generator itself was late, p99 {late['value']:,.0f} µs; that is part of the "
                "latencies: lower --rate, or give it a CPU of its own (--cpu)"
            )
        own = target["metrics"]["generator_cpu_cores"]
        if own is not None and own["value"] > _BUSY:
            yield (
                f"{target['name']}: the generator itself was busy for {own['value']:.0%} of the time, and may be what "
                "limits: ask for less, or give it a CPU of its own (--cpu)"
            )


def render(table: Table) -> RichTable:
    """Return a table for the terminal."""
    rich = RichTable(box=None, pad_edge=False, title_justify="left", header_style="bold", padding=(0, 2, 0, 0))
    rich.add_column(table.title, no_wrap=True)
    for column in table.columns:
        rich.add_column(column, justify="right", no_wrap=True)
    for row in table.rows:
        style = "bold" if row.main else "dim" if row.label.strip().startswith("÷") else ""
        rich.add_row(Text(row.label, style=style), *(Text(cell, style=style) for cell in row.cells))
    return rich
