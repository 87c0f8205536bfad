"""The report as one HTML page that needs nothing beside itself."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from fastwrap.bench.table import LEGEND, Table, describe, tables, warnings

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMED = (
    ("", "Latency"),
    ("ttft_", "Time to first content"),
    ("icl_", "Between chunks"),
    ("transit_", "Chunk transit"),
)
#: Where the axis of the percentiles has its marks.
_MARKS = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1.5rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .9rem; text-align: right; white-space: pre }
th:first-child, td:first-child { text-align: left }
thead th { border-bottom: 1px solid #999 } tr.main td { font-weight: 600; border-top: 1px solid #ddd }
.warning { background: #fff3cd; padding: .5rem 1rem } summary { cursor: pointer } pre { overflow: auto }
"""


class PageError(RuntimeError):
    """No page can be made; says what to install."""


def require() -> None:
    """Check that a page can be made, before anything is measured for it.

    Raises:
        PageError: If plotly is absent.
    """
    try:
        import plotly.graph_objects  # noqa: F401, PLC0415 (an optional extra)
    except ImportError as error:
        raise PageError("plotly draws the page, and it is not installed: pip install 'fastwrap[bench]'") from error


def page(report: dict[str, Any]) -> str:
    """Return the page: tables, distributions, rounds, and all numbers as JSON."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415

    figures = "\n".join(_figures(report))
    notes = "".join(f'<p class="warning">{html.escape(warning)}</p>' for warning in warnings(report))
    machine = report["machine"]
    where = (
        f"{machine['cpu']}, {machine['cpus']} CPU(s), {machine['system']}; fastwrap {report['versions']['fastwrap']}"
    )
    data = html.escape(json.dumps({**report, "targets": [_brief(target) for target in report["targets"]]}, indent=1))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>fastwrap bench</title><style>{_STYLE}</style>
<script>{get_plotlyjs()}</script></head><body>
<h1>fastwrap bench</h1>
<p>{html.escape(describe(report["settings"]))}<br>{html.escape(report["date"])}; {html.escape(where)}</p>
{notes}
{"".join(map(_table, tables(report)))}
<p>{html.escape(LEGEND)}</p>
{figures}
<details><summary>All numbers</summary><pre>{data}</pre></details>
</body></html>
"""


def _brief(target: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the figures show."""
    return {name: value for name, value in target.items() if name != "distributions"}


def _table(table: Table) -> str:
    def line(cells: tuple[str, ...], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    head = line((table.title, *table.columns), "th")
    rows = "".join(
        f'<tr class="{"main" if row.main else "part"}">{line((row.label, *row.cells), "td")}</tr>' for row in table.rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _figures(report: dict[str, Any]) -> Iterator[str]:
    import plotly.graph_objects as go  # noqa: PLC0415

    for stem, title in _TIMED:
        figure = go.Figure()
        for target in report["targets"]:
            points = target["distributions"].get(f"{stem}us", [])
            if points:
                rarity = _rarity([fraction for fraction, _ in points])
                percent = [f"{fraction:.5%}" for fraction, _ in points]
                times = [time for _, time in points]
                hover = "%{customdata}: %{y:,.1f} µs"
                figure.add_scatter(x=rarity, y=times, name=target["name"], customdata=percent, hovertemplate=hover)
        marks = {"tickvals": [1 / (1 - mark) for mark in _MARKS], "ticktext": [f"{100 * mark:g} %" for mark in _MARKS]}
        yield _drawn(
            figure, f"{title}: how many are not slower", {"title": "percentile", "type": "log", **marks}, "log"
        )
    for stem, title in _TIMED:
        figure = go.Figure()
        for target in report["targets"]:
            medians = [one[f"{stem}p50_us"] for one in target["rounds"]]
            if any(median is not None for median in medians):
                numbers = [*range(1, len(medians) + 1)]
                figure.add_scatter(x=numbers, y=medians, name=target["name"], mode="lines+markers")
        yield _drawn(figure, f"{title}: median of each round", {"title": "round", "dtick": 1}, "linear")


def _rarity(fractions: list[float]) -> list[float]:
    """One in how many is slower; the slowest of all, than which none is, stands a step further right."""
    found: list[float] = []
    for fraction in fractions:
        found.append(1 / (1 - fraction) if fraction < 1 else 2 * (found[-1] if found else 1.0))
    return found


def _drawn(figure: Any, title: str, axis: dict[str, Any], scale: str) -> str:
    if not figure.data:
        return ""
    figure.update_layout(title=title, xaxis=axis, yaxis={"title": "µs", "type": scale}, template="plotly_white")
    drawn: str = figure.to_html(full_html=False, include_plotlyjs=False, default_height="450px")
    return drawn
