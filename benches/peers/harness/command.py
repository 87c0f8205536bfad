"""The command line."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from fastwrap import descriptors
from harness import record
from harness.measure import Orders, RunError, measure
from harness.placement import PLACEMENTS, placement
from harness.proxy import UnavailableError
from harness.scenario import SCENARIOS
from harness.tables import promise_table, scenario_table
from proxies import PROXIES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from harness.measure import Outcome
    from harness.proxy import Proxy
    from harness.scenario import Scenario

_RECORD = Path(__file__).parents[2] / "record"
_COMMAND = shlex.join(["python", "benches/peers/run.py", *sys.argv[1:]])
#: How the names of fastwrap's own servers begin.
OWN = "fastwrap-"
#: Without a terminal: wide enough for three figures and their ratios.
_WIDTH = 160


def _listed(known: dict[str, str]) -> str:
    width = max(map(len, known)) + 2
    return "\n".join(f"  {name:{width}}{about}" for name, about in known.items())


_EPILOG = f"""\b
Scenarios:
{_listed({name: one.about for name, one in SCENARIOS.items()})}

\b
Proxies:
{_listed({name: one.about for name, one in PROXIES.items()})}

\b
Placements:
  S  load, engine and proxy on one CPU: the code is seen, and not how long another virtual CPU takes to wake up
  X  load and engine on one CPU, the proxy on another one

\b
Examples:
  python benches/peers/run.py --peers nginx,fastwrap-native,fastwrap-granian --scenario json-c1
  python benches/peers/run.py --quick              each once, for answers, not for times
  python benches/peers/run.py --record             all of it, kept under benches/record/

\b
A peer from PyPI is installed into an environment of its own the first time, under $XDG_CACHE_HOME/fastwrap-peers (by
default ~/.cache); logs of the last run are in its folder runs/. nginx must be there. What cannot be installed, does not
serve, or answers differently is shown with its reason, and the others are measured.

The exit code is 1 if fastwrap itself could not be measured or gave a wrong answer, else 0.
"""


class _Names(click.ParamType[list[str]]):
    """Some of a list of names, with commas between them."""

    name = "names"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(self, value: str | list[str], param: click.Parameter | None, ctx: click.Context | None) -> list[str]:
        """Return the names in the order of the list."""
        names = value.split(",") if isinstance(value, str) else value
        for name in names:
            if name not in self._known:
                self.fail(f"there is no {name!r}; there are {', '.join(self._known)}", param, ctx)
        return [name for name in self._known if name in names]


@click.command(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--peers", type=_Names([*PROXIES]), default=[*PROXIES], metavar="NAMES", help="Which proxies.  [all]")
@click.option("--placement", "places", type=_Names(PLACEMENTS), default=[*PLACEMENTS], metavar="S|X", help="[both]")
@click.option("--scenario", "scenes", type=_Names([*SCENARIOS]), default=[*SCENARIOS], metavar="NAMES", help="[all]")
@click.option("--rounds", type=click.IntRange(1), metavar="NUMBER", help="Rounds that count.  [5 or 7]")
@click.option("--quick", is_flag=True, help="One short round of each: it shows that answers are right, and no times.")
@click.option("--record", "keep", is_flag=True, help="Write results to benches/record/, as JSON and as Markdown.")
@click.option("--record-to", type=click.Path(file_okay=False, path_type=Path), help="The same, to another folder.")
@click.option("--under", default="", metavar="COMMAND", help="Give each measurement to a command, as 'chrt -f 1'.")
def main(  # noqa: PLR0913 (options)
    *,
    peers: list[str],
    places: list[str],
    scenes: list[str],
    rounds: int | None,
    quick: bool,
    keep: bool,
    record_to: Path | None,
    under: str,
) -> None:
    """Measure what proxies add to a simulated engine, side by side: driven in turns, in one run of fastwrap bench."""
    descriptors.raise_limit()
    # What was started ends when this does, however it is ended.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    folder = record_to or (_RECORD if keep else None)
    try:
        orders = [Orders(placement(name), rounds, quick, tuple(shlex.split(under))) for name in places]
    except UnavailableError as error:
        raise click.ClickException(str(error)) from error
    scenarios = [SCENARIOS[name].quick() if quick else SCENARIOS[name] for name in scenes]
    field = Field([PROXIES[name] for name in peers], console)
    field.install()
    wrong = [one for order in orders for one in _placed(field, scenarios, order, folder)]
    for one in wrong:
        click.echo(f"Failed: {one}", err=True)
    if wrong:
        sys.exit(1)


class Field:
    """The proxies that are to be measured, and what is known of them.

    Attributes:
        proxies: All that were asked for.
        versions: Those that are here, by name.
        absent: Why the others are not.
    """

    def __init__(self, proxies: Sequence[Proxy], console: Console) -> None:
        self.proxies, self.console = proxies, console
        self.versions: dict[str, str] = {}
        self.absent: dict[str, str] = {}

    @property
    def names(self) -> list[str]:
        """What the proxies are called."""
        return [proxy.name for proxy in self.proxies]

    def install(self) -> None:
        """Install what is not there."""
        for proxy in self.proxies:
            _say(f"{proxy.name}: looking for it, or installing it")
            try:
                self.versions[proxy.name] = proxy.install()
            except UnavailableError as error:
                self.absent[proxy.name] = str(error)
                self.console.print(f"{proxy.name}: {error}", markup=False)

    def measure(self, scenario: Scenario, orders: Orders) -> Outcome:
        """Drive all that are here in one scenario, and show its table."""
        left_out = dict.fromkeys(scenario.leaves_out, "left out: it would take minutes for this load")
        ready = [proxy for proxy in self.proxies if proxy.name in self.versions and proxy.name not in left_out]
        outcome = measure(scenario, ready, orders, _say)
        outcome.absent |= {name: why for name, why in (left_out | self.absent).items() if name in self.names}
        self.console.print()
        self.console.print(scenario_table(outcome, self.names))
        return outcome


def _say(text: str) -> None:
    """Say what is going on, once: a line that turns would be measured, too."""
    click.echo(text, err=True)


def _placed(field: Field, scenarios: Sequence[Scenario], orders: Orders, folder: Path | None) -> Iterator[str]:
    """Measure everything in one placement; yield what fastwrap itself got wrong."""
    place = orders.placement
    field.console.print(f"\nPlacement {place.about}", markup=False, style="bold")
    outcomes: dict[str, Outcome] = {}
    for scenario in scenarios:
        try:
            outcomes[scenario.name] = outcome = field.measure(scenario, orders)
        except RunError as error:  # the others may go well
            yield str(error)
            continue
        if folder is not None:  # at once: who ends a long run keeps what it has found
            record.write(folder, record.Found(_COMMAND, place, field.proxies, field.versions, outcome))
        for name, reason in (outcome.absent | outcome.notes).items():
            if name.startswith(OWN):
                yield f"{scenario.name}: {name}: {reason}"
    if outcomes and not orders.quick:
        field.console.print()
        field.console.print(promise_table(outcomes, place.name))
