"""The command line of ``fastwrap bench``."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import click

from fastwrap import _native, descriptors
from fastwrap.bench.options import CLOSED_CONNECTIONS, OPEN_CONNECTIONS, SectionedCommand, bench_options

if TYPE_CHECKING:
    from pathlib import Path

    from fastwrap.bench.condition import Condition

_EPILOG = """\b
Examples:
  fastwrap bench direct=http://127.0.0.1:8000 fastwrap=http://127.0.0.1:8080
      what fastwrap adds to a request, one at a time
  fastwrap bench direct=... fastwrap=... --mode sse --concurrency 32 \\
    --pid fastwrap=4711
      32 streams at once: first content, time between chunks, CPU a chunk
  fastwrap bench direct=... fastwrap=... --mode sse --concurrency 32 --transit
      how long each chunk is on its way; with fastwrap engine --itl-ms 10
  fastwrap bench direct=... fastwrap=... --mode sse --concurrency 1000 \\
    --ramp 1 --rounds 3 --pid fastwrap=4711
      1,000 streams; with fastwrap engine --itl-ms 50 --tokens 64
  fastwrap bench direct=... fastwrap=... --rate 200 --duration 5
      as users come, 200 a second at random: a stall delays all who come
      meanwhile, and that counts
  fastwrap bench direct=... nginx=... fastwrap=... --reference nginx
      what fastwrap adds, divided by what nginx adds
  fastwrap bench direct=... fastwrap=... --request-bytes 8MiB
      prompts with images
  fastwrap bench direct=... fastwrap=... --fail-if 'added_p99_us > 500'
      for CI: the exit code is 1 if it is so

\b
Nothing at hand to be measured? In two other terminals:
  fastwrap engine --port 8000
  fastwrap serve --upstream http://127.0.0.1:8000

\b
To believe the numbers:
  - All targets must lead to the same engine, which must answer the same
    every time.
  - Give generator (--cpu), proxy and engine (taskset) CPUs of their own, or
    one together; say which.
  - Look at the generator's own CPU: near 1, it is what limits.
  - Look at the intervals: if they overlap 0, there is no difference to be
    seen; take more --rounds.

The exit code is 1 if a condition of --fail-if holds, or the run could not be made, else 0.
"""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
#: What the process has open beside its connections, at most.
_OWN_DESCRIPTORS = 64
#: Without a terminal: wide enough for four quantiles.
_WIDTH = 120


@click.command(
    cls=SectionedCommand,
    epilog=_EPILOG,
    short_help="Measure what a proxy adds: latency, CPU, memory.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.argument("targets", nargs=-1, required=True, metavar="NAME=URL...")
@bench_options
def bench(*, targets: tuple[str, ...], **options: Any) -> None:
    """Measure what a way to an engine adds: latency, time to first content, time between chunks, CPU, memory.

    The targets are driven in turns, in many short rounds, so that what disturbs the machine disturbs all of them. The
    first one is the baseline: the engine itself. Every answer is read to its end and compared with the baseline's
    before it counts. The load generator is native; no Python runs while it measures.
    """
    files = options.pop("json"), options.pop("html")
    _pin(options.pop("cpu"))
    texts = options.pop("fail_if")
    named = _targets(targets, options.pop("pid"))
    conditions = _conditions(texts, [name for name, _, _ in named])
    if files[1] is not None:
        _require_page()
    settled = _settled(options)
    _require_descriptors(len(named), settled)
    report = _run(named, settled)
    reasons = [reason for condition in conditions for reason in condition.holds(report)]
    report["fail_if"] = {"conditions": texts, "failed": reasons}
    _show(report)
    _write(report, *files)
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


def _settled(options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the generator: defaults that depend on others, and what no type can check."""
    if options["rate"] is None and options["arrivals"] is not None:
        raise click.UsageError("--arrivals is of the open loop: give a --rate, too")
    if not options["path"].startswith("/"):
        raise click.BadParameter(f"{options['path']!r} must begin with /", param_hint="--path")
    options["arrivals"] = options["arrivals"] or "poisson"
    options["concurrency"] = options["concurrency"] or (
        CLOSED_CONNECTIONS if options["rate"] is None else OPEN_CONNECTIONS
    )
    options["headers"] = [_header(header) for header in options.pop("header")]
    return options


def _pin(cpu: int | None) -> None:
    if cpu is None:
        return
    if not hasattr(os, "sched_setaffinity"):
        raise click.BadParameter("this system cannot keep a process on a CPU: leave it out", param_hint="--cpu")
    allowed = sorted(os.sched_getaffinity(0))
    if cpu not in allowed:
        raise click.BadParameter(f"{cpu} is none of the CPUs that may be used: {allowed}", param_hint="--cpu")
    os.sched_setaffinity(0, {cpu})


def _require_descriptors(targets: int, options: dict[str, Any]) -> None:
    limit = descriptors.raise_limit()
    needed = targets * options["concurrency"] + _OWN_DESCRIPTORS
    if options["rate"] is None and needed > limit:
        raise click.ClickException(
            f"{options['concurrency']} connections to each target need {needed} open files, and {limit} are allowed: "
            f"raise the limit (ulimit -Hn), or lower --concurrency"
        )


def _run(targets: list[tuple[str, str, int | None]], options: dict[str, Any]) -> dict[str, Any]:
    from rich.console import Console  # noqa: PLC0415 (start-up time)
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    from fastwrap.bench.machine import describe  # noqa: PLC0415

    machine = describe()
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
            found = _native.run_bench(targets, on_progress=on_progress, **options)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        except RuntimeError as error:
            raise click.ClickException(str(error)) from error
    date = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    report: dict[str, Any] = {"date": date, **machine, **json.loads(found)}
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
