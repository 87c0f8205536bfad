"""The command line of ``fastwrap bench``."""

from __future__ import annotations

import datetime
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastwrap import _native

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.bench.condition import Condition

_EPILOG = """\b
Examples:
  fastwrap bench direct=http://127.0.0.1:8000 fastwrap=http://127.0.0.1:8080
      what fastwrap adds to a request, one at a time
  fastwrap bench direct=... fastwrap=... --mode sse --concurrency 32 --pid fastwrap=4711
      32 streams at once: time to first content, time between chunks, CPU a chunk
  fastwrap bench direct=... fastwrap=... --rate 200 --duration 5
      as users come, 200 a second at random; a stall delays all who come meanwhile, and that counts
  fastwrap bench direct=... nginx=... fastwrap=... --reference nginx
      what fastwrap adds, divided by what nginx adds
  fastwrap bench direct=... fastwrap=... --request-bytes 8MiB
      prompts with images
  fastwrap bench direct=... fastwrap=... --fail-if 'added_p99_us > 500' --fail-if 'errors > 0'
      for CI: the exit code is 1 if it is so

\b
Nothing at hand to be measured? In two other terminals:
  fastwrap engine --port 8000
  fastwrap serve --upstream http://127.0.0.1:8000

\b
To believe the numbers:
  - All targets must lead to the same engine, which must answer the same every time.
  - Give generator, proxy and engine CPUs of their own (taskset), or one together; say which.
  - Look at the intervals: if they overlap 0, there is no difference to be seen; take more --rounds.

The exit code is 1 if a condition of --fail-if holds, or the run could not be made, else 0.
"""

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>|B|KiB|MiB|GiB|kB|KB|MB|GB)")
_UNITS = {
    "": 1,
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "kB": 10**3,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
#: Connections, if none are asked for: one at a time is what a single client sees; an open loop takes what it needs.
_CLOSED_CONNECTIONS, _OPEN_CONNECTIONS = 1, 1024
#: Without a terminal: wide enough for four quantiles.
_WIDTH = 120


class _Size(click.ParamType):
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} is no size: write 1024, 64KiB or 8MiB", param, ctx)
        return int(float(found["number"]) * _UNITS[found["unit"]])


class _Option(click.Option):
    """An option that stands in a section of the help."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class _Command(click.Command):
    """A command whose help has a section for each group of options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "Other"), []).append(record)
        width = max(len(term) for rows in groups.values() for term, _ in rows)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows], col_max=width)


def _option(group: str, *names: str, **kwargs: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(*names, cls=_Option, group=group, **kwargs)


@click.command(
    cls=_Command,
    epilog=_EPILOG,
    short_help="Measure what a proxy adds: latency, CPU, memory.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.argument("targets", nargs=-1, required=True, metavar="NAME=URL...")
@_option(
    "Load",
    "--concurrency",
    type=click.IntRange(1),
    metavar="NUMBER",
    help=(
        "Connections, each with one request at a time. With --rate, the most there may be: what has to wait for one waits "
        f"on the clock.  [default: {_CLOSED_CONNECTIONS}; with --rate {_OPEN_CONNECTIONS}]"
    ),
)
@_option(
    "Load",
    "--rate",
    type=click.FloatRange(0, min_open=True),
    metavar="R",
    help=(
        "Open loop: R requests a second, whether answers come or not; latencies count from the intended start. Without it "
        "the loop is closed: the next request follows the last answer."
    ),
)
@_option(
    "Load",
    "--arrivals",
    type=click.Choice(("poisson", "constant")),
    metavar="HOW",
    help=(
        "How the requests of an open loop are spread: poisson, as independent users come, or constant.  "
        "[default: poisson]"
    ),
)
@_option(
    "Request",
    "--mode",
    type=click.Choice(("json", "sse")),
    default="json",
    metavar="MODE",
    help=("json: one answer; sse: a stream of events.  [default: json]"),
)
@_option(
    "Request",
    "--request-bytes",
    type=_Size(),
    metavar="SIZE",
    help=("Pad the prompt until the request's body has this size: 1024, 64KiB, 8MiB.  [default: a short prompt]"),
)
@_option(
    "Request",
    "--path",
    default="/v1/chat/completions",
    metavar="PATH",
    help=("What is asked: chat completions, or completions.  [default: /v1/chat/completions]"),
)
@_option("Request", "--model", metavar="NAME", help="The model.  [default: the first that the first target has]")
@_option("Request", "--max-tokens", type=click.IntRange(1), metavar="NUMBER", help="The most tokens of an answer.")
@_option(
    "Request",
    "--header",
    "headers",
    multiple=True,
    metavar="'NAME: VALUE'",
    help=("A header of every request, as 'Authorization: Bearer ...'; may be repeated. Values are not reported."),
)
@_option(
    "Run",
    "--duration",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    metavar="SECONDS",
    help=("How long each target is driven in a round.  [default: 1]"),
)
@_option(
    "Run",
    "--rounds",
    type=click.IntRange(1),
    default=10,
    metavar="NUMBER",
    help=("Rounds; in each the targets have their turns in a new order.  [default: 10]"),
)
@_option(
    "Run",
    "--warmup",
    type=click.IntRange(0),
    default=1,
    metavar="NUMBER",
    help=("Rounds before them, which do not count.  [default: 1]"),
)
@_option(
    "Run",
    "--seed",
    type=click.IntRange(0, 2**64 - 1),
    default=0,
    metavar="NUMBER",
    help=("Decides orders and arrivals.  [default: 0]"),
)
@_option(
    "Run",
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=30.0,
    metavar="SECONDS",
    help=("How long an answer may take after its turn has ended.  [default: 30]"),
)
@_option(
    "Run",
    "--check",
    type=click.Choice(("events", "content", "status")),
    default="events",
    metavar="WHAT",
    help=(
        "What makes an answer right, so that it counts. events: its text, and the number of events with text, are the first "
        "target's; content: its text is; status: it is a whole answer, for engines that answer differently each time.  "
        "[default: events]"
    ),
)
@_option(
    "Report",
    "--reference",
    metavar="NAME",
    help=(
        "Divide what each target adds by what this one adds, and rates and CPU by this one's; otherwise by the first's."
    ),
)
@_option(
    "Report",
    "--pid",
    "pids",
    multiple=True,
    metavar="NAME=PID",
    help=("The process behind a target: report CPU and memory of it and its children (Linux); may be repeated."),
)
@_option(
    "Report",
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=("Write all numbers and settings, machine, versions and date."),
)
@_option(
    "Report",
    "--html",
    "html_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help=("Write a page with the distributions; it needs pip install 'fastwrap[bench]'."),
)
@_option(
    "Report",
    "--fail-if",
    "conditions",
    multiple=True,
    metavar="CONDITION",
    help=(
        "Exit with 1 if it is so: METRIC OPERATOR NUMBER, of every target, or NAME.METRIC ...; may be repeated. A metric "
        "that does not exist lists those that do."
    ),
)
def bench(  # noqa: PLR0913 (one argument an option)
    *,
    targets: tuple[str, ...],
    headers: tuple[str, ...],
    pids: tuple[str, ...],
    conditions: tuple[str, ...],
    json_file: Path | None,
    html_file: Path | None,
    **options: Any,
) -> None:
    """Measure what a way to an engine adds: latency, time to first content, time between chunks, CPU, memory.

    The targets are driven in turns, in many short rounds, so that what disturbs the machine disturbs all of them. The
    first one is the baseline: the engine itself. Every answer is read to its end and compared with the baseline's
    before it counts. The load generator is native; no Python runs while it measures.
    """
    named = _targets(targets, pids)
    checks = _conditions(conditions, [name for name, _, _ in named])
    if html_file is not None:
        _require_page()
    report = _run(named, [_header(header) for header in headers], options)
    reasons = [reason for condition in checks for reason in condition.holds(report)]
    report["fail_if"] = {"conditions": list(conditions), "failed": reasons}
    _show(report)
    _write(report, json_file, html_file)
    for reason in reasons:
        click.echo(f"Failed: {reason}", err=True)
    if reasons:
        sys.exit(1)


def _targets(targets: tuple[str, ...], pids: tuple[str, ...]) -> list[tuple[str, str, int | None]]:
    pairs = [_pair(target, "NAME=URL, as direct=http://127.0.0.1:8000", "TARGETS") for target in targets]
    names = [name for name, _ in pairs]
    processes: dict[str, int] = {}
    for text in pids:
        name, pid = _pair(text, "NAME=PID, as fastwrap=4711", "--pid")
        if name not in names:
            raise click.BadParameter(f"there is no target {name!r}; they are {', '.join(names)}", param_hint="--pid")
        if not pid.isdecimal() or not 0 < int(pid) < 2**31:
            raise click.BadParameter(f"{pid!r} is no process: write its number, as pgrep gives it", param_hint="--pid")
        processes[name] = int(pid)
    return [(name, url, processes.get(name)) for name, url in pairs]


def _pair(text: str, form: str, hint: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value or not _NAME.fullmatch(name):
        raise click.BadParameter(f"{text!r} is not {form}", param_hint=hint)
    return name, value


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text!r} is not 'NAME: VALUE'", param_hint="--header")
    return name.strip(), value.strip()


def _conditions(texts: tuple[str, ...], names: list[str]) -> list[Condition]:
    from fastwrap.bench.condition import ConditionError, parse  # noqa: PLC0415 (start-up time)

    try:
        return [parse(text, names) for text in texts]
    except ConditionError as error:
        raise click.BadParameter(str(error), param_hint="--fail-if") from error


def _require_page() -> None:
    from fastwrap.bench.page import PageError, require  # noqa: PLC0415 (start-up time)

    try:
        require()
    except PageError as error:
        raise click.ClickException(f"--html: {error}") from error


def _run(
    targets: list[tuple[str, str, int | None]], headers: list[tuple[str, str]], options: dict[str, Any]
) -> dict[str, Any]:
    from rich.console import Console  # noqa: PLC0415 (start-up time)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from fastwrap.bench.machine import describe  # noqa: PLC0415

    if options["rate"] is None and options["arrivals"] is not None:
        raise click.UsageError("--arrivals is of the open loop: give a --rate, too")
    if not options["path"].startswith("/"):
        raise click.BadParameter(f"{options['path']!r} must begin with /", param_hint="--path")
    options["arrivals"] = options["arrivals"] or "poisson"
    if options["concurrency"] is None:
        options["concurrency"] = _CLOSED_CONNECTIONS if options["rate"] is None else _OPEN_CONNECTIONS
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    # Drawn between slices only: a thread that redraws would be measured, too.
    with Progress(
        *columns, console=console, auto_refresh=False, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("looking at the targets", total=None)

        def on_progress(done: int, total: int, number: int, target: str) -> None:
            what = f"round {number} of {options['rounds']}" if number else "warm-up"
            bar.update(task, completed=done, total=total, description=f"{what}: {target}", refresh=True)

        try:
            found = _native.run_bench(targets, headers=headers, on_progress=on_progress, **options)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error
    date = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    report: dict[str, Any] = {"date": date, **describe(), **json.loads(found)}
    return report


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console  # noqa: PLC0415 (start-up time)

    from fastwrap.bench import table  # noqa: PLC0415

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(table.describe(report["settings"]), markup=False)
    for one in table.tables(report):
        console.print()
        console.print(table.render(one))
    console.print()
    if len(report["targets"]) == 1:
        console.print("One target: nothing to compare it with. Name the engine itself first, then the proxy.")
    console.print(table.LEGEND, markup=False)
    for warning in table.warnings(report):
        click.echo(f"Warning: {warning}", err=True)


def _write(report: dict[str, Any], json_file: Path | None, html_file: Path | None) -> None:
    from fastwrap.bench.page import page  # noqa: PLC0415 (start-up time)

    try:
        if json_file is not None:
            json_file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if html_file is not None:
            html_file.write_text(page(report), encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}") from error
