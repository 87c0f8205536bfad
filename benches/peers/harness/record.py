"""A run as it is kept: all numbers in JSON, the tables in Markdown, with machine, commit, date and command."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastwrap.bench.machine import describe
from harness.measure import Outcome
from harness.scenario import SCENARIOS
from harness.tables import markdown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from harness.placement import Placement
    from harness.proxy import Proxy


@dataclass(frozen=True)
class Found:
    """What one scenario has shown in one placement.

    Attributes:
        command: How the run was started.
        placement: Who ran where.
        proxies: What was asked for.
        versions: Of those that were there, by name.
        outcome: What was found.
    """

    command: str
    placement: Placement
    proxies: Sequence[Proxy]
    versions: Mapping[str, str]
    outcome: Outcome


def write(folder: Path, found: Found) -> None:
    """Put a scenario into the record of its day, commit and placement, beside what is there."""
    date = dt.datetime.now(dt.timezone.utc)
    known = describe()
    stem = f"{date:%Y-%m-%d}-{known['versions']['commit'] or 'installed'}-{found.placement.name}"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{stem}.json"
    before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"proxies": {}, "scenarios": {}}
    proxies = {one.name: {"about": one.about, "version": found.versions.get(one.name)} for one in found.proxies}
    scenarios = {**before["scenarios"], found.outcome.scenario.name: _scenario(found, date)}
    everything = {
        "date": date.isoformat(timespec="seconds"),
        **known,
        "placement": found.placement.about,
        "proxies": before["proxies"] | proxies,
        "scenarios": {name: scenarios[name] for name in SCENARIOS if name in scenarios},
    }
    file.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    outcomes = {
        name: Outcome(SCENARIOS[name], one["report"], one["absent"], one["notes"])
        for name, one in everything["scenarios"].items()
    }
    tables = markdown(outcomes, [*everything["proxies"]], found.placement.name)
    (folder / f"{stem}.md").write_text(_page(everything) + tables, encoding="utf-8")


def _scenario(found: Found, date: dt.datetime) -> dict[str, Any]:
    scenario = found.outcome.scenario
    return {
        "about": scenario.about,
        "date": date.isoformat(timespec="seconds"),
        "command": found.command,
        "engine": {"ttft_ms": scenario.ttft_ms, "itl_ms": scenario.itl_ms, "options": scenario.engine},
        "absent": found.outcome.absent,
        "notes": found.outcome.notes,
        "report": found.outcome.report,
    }


def _page(everything: dict[str, Any]) -> str:
    machine, versions = everything["machine"], everything["versions"]
    proxies = "".join(
        f"- {name} ({one['version'] or 'not there'}): {one['about']}\n" for name, one in everything["proxies"].items()
    )
    scenarios = "".join(f"- {name}: {_described(one)}\n" for name, one in everything["scenarios"].items())
    commands = "\n".join(dict.fromkeys(f"    {one['command']}" for one in everything["scenarios"].values()))
    return f"""# {everything["date"]}: proxies side by side

{commands}

fastwrap {versions["fastwrap"]}, commit {versions["commit"]}; Python {versions["python"]}; {machine["cpu"]},
{machine["cpus"]} CPU(s), {machine["system"]}. Placement {everything["placement"]}.

Medians over rounds of one interleaved run a scenario. In parentheses the ratio to nginx (body-8mib: nginx-unbuffered)
and its 95 % interval over rounds; of the engine alone, in brackets, what the others add to.

{proxies}
{scenarios}
"""


def _described(scenario: dict[str, Any]) -> str:
    settings, load = scenario["report"]["settings"], scenario["report"]["machine"]["load_average"][0]
    return (
        f"{scenario['about']}; {settings['load']['concurrency']:,} client(s), {settings['rounds']} round(s) of "
        f"{settings['duration_s']:g} s, load average before it {load:.1f}"
    )
