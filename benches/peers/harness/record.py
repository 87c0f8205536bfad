"""A run as it is kept: all numbers in JSON, the tables in Markdown, with machine, commit, date and command."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastwrap.bench.machine import describe
from harness.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.measure import Outcome
    from harness.placement import Placement
    from harness.proxy import Proxy


@dataclass(frozen=True)
class Found:
    """A run in one placement.

    Attributes:
        command: How it was started.
        placement: Who ran where.
        proxies: What was asked for.
        versions: Of those that were there, by name.
        outcomes: What was found, by scenario.
    """

    command: str
    placement: Placement
    proxies: Sequence[Proxy]
    versions: Mapping[str, str]
    outcomes: Mapping[str, Outcome]


def write(folder: Path, found: Found) -> list[Path]:
    """Write both files, and return them."""
    date = dt.datetime.now(dt.timezone.utc)
    known = describe()
    stem = f"{date:%Y-%m-%d}-{known['versions']['commit'] or 'installed'}-{found.placement.name}"
    everything = {
        "date": date.isoformat(timespec="seconds"),
        **known,
        "command": found.command,
        "placement": found.placement.about,
        "proxies": [
            {"name": proxy.name, "about": proxy.about, "version": found.versions.get(proxy.name)}
            for proxy in found.proxies
        ],
        "scenarios": {name: _scenario(outcome) for name, outcome in found.outcomes.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{stem}.json", folder / f"{stem}.md"]
    files[0].write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    files[1].write_text(
        _page(everything) + markdown(found.outcomes, found.proxies, found.placement.name), encoding="utf-8"
    )
    return files


def _scenario(outcome: Outcome) -> dict[str, Any]:
    scenario = outcome.scenario
    return {
        "about": scenario.about,
        "engine": {"ttft_ms": scenario.ttft_ms, "itl_ms": scenario.itl_ms, "options": scenario.engine},
        "absent": outcome.absent,
        "notes": outcome.notes,
        "report": outcome.report,
    }


def _page(everything: dict[str, Any]) -> str:
    machine, versions = everything["machine"], everything["versions"]
    proxies = "".join(
        f"- {proxy['name']} ({proxy['version'] or 'not there'}): {proxy['about']}\n" for proxy in everything["proxies"]
    )
    scenarios = "".join(f"- {name}: {_described(one)}\n" for name, one in everything["scenarios"].items())
    return f"""# {everything["date"]}: proxies side by side

`{everything["command"]}`

fastwrap {versions["fastwrap"]}, commit {versions["commit"]}; Python {versions["python"]}; {machine["cpu"]},
{machine["cpus"]} CPU(s), {machine["system"]}, load average {machine["load_average"][0]:.1f} at the end.
Placement {everything["placement"]}. Medians over rounds of one interleaved run a scenario; in parentheses the ratio to
nginx (body-8mib: to nginx-unbuffered) with its 95 % interval; of the engine alone, in brackets, what the others add to.

{proxies}
{scenarios}
"""


def _described(scenario: dict[str, Any]) -> str:
    settings = scenario["report"]["settings"]
    return (
        f"{scenario['about']}; {settings['load']['concurrency']:,} client(s), {settings['rounds']} round(s) of "
        f"{settings['duration_s']:g} s"
    )
