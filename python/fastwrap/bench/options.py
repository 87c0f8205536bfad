"""The options of ``fastwrap bench``, and what they may hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[kKMG]?i?B?)")
_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_FILE = click.Path(dir_okay=False, path_type=Path)
_ABOVE_0 = click.FloatRange(0, min_open=True)
#: Connections, if none are asked for: one at a time is what a single client sees; an open loop takes what it needs.
CLOSED_CONNECTIONS, OPEN_CONNECTIONS = 1, 1024

Command = TypeVar("Command", bound="Callable[..., Any]")


def _size(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
    """Read a size with its unit."""
    if text is None:
        return None
    found = _SIZE.fullmatch(text.strip())
    unit = found["unit"].removesuffix("B") if found else None
    if found is None or unit not in _UNITS:
        raise click.BadParameter(f"{text!r} is no size: write 1024, 64KiB or 8MiB")
    return int(float(found["number"]) * _UNITS[unit])


#: Group, name, type, default, placeholder and help of each option; a default is shown behind the help.
_OPTIONS: tuple[tuple[str, str, Any, Any, str, str], ...] = (
    (
        "Load",
        "concurrency",
        click.IntRange(1),
        None,
        "NUMBER",
        (
            "Connections, each with one request at a time. With --rate, the most there may be: what has to wait for "
            f"one waits on the clock.  [default: {CLOSED_CONNECTIONS}; with --rate {OPEN_CONNECTIONS}]"
        ),
    ),
    (
        "Load",
        "rate",
        _ABOVE_0,
        None,
        "R",
        (
            "Open loop: R requests a second, whether answers come or not; latencies count from the intended start. "
            "Without it the loop is closed: the next request follows the last answer."
        ),
    ),
    (
        "Load",
        "arrivals",
        click.Choice(("poisson", "constant")),
        None,
        "HOW",
        (
            "How the requests of an open loop are spread: poisson, as independent users come, or constant.  "
            "[default: poisson]"
        ),
    ),
    (
        "Load",
        "ramp",
        click.FloatRange(0),
        0.0,
        "SECONDS",
        (
            "Let the connections of a closed loop begin one after another over this time, which comes before "
            "--duration: thousands at once would flood what accepts them, and paced streams would all speak at once."
        ),
    ),
    ("Request", "mode", click.Choice(("json", "sse")), "json", "MODE", "json: one answer; sse: a stream of events."),
    (
        "Request",
        "request_bytes",
        str,
        None,
        "SIZE",
        "Pad the prompt until the request's body has this size: 1024, 64KiB, 8MiB.  [default: a short prompt]",
    ),
    ("Request", "path", str, "/v1/chat/completions", "PATH", "What is asked: chat completions, or completions."),
    ("Request", "model", str, None, "NAME", "The model.  [default: the first that the first target has]"),
    ("Request", "max_tokens", click.IntRange(1), None, "NUMBER", "The most tokens of an answer."),
    (
        "Request",
        "body",
        str,
        "{}",
        "JSON",
        'Members of every request\'s body, over those it has anyway, as \'{"temperature": 1, "top_p": 0.9}\'.',
    ),
    (
        "Request",
        "transit",
        bool,
        False,
        "",
        (
            "With --mode sse: time the way of each event, from the engine's send to its arrival here. The engine must "
            "be fastwrap engine, which is asked to stamp its events, and on this machine: both read one clock."
        ),
    ),
    (
        "Request",
        "header",
        str,
        (),
        "'NAME: VALUE'",
        "A header of every request, as 'Authorization: Bearer ...'; may be repeated. Values are not reported.",
    ),
    ("Run", "duration", _ABOVE_0, 1.0, "SECONDS", "How long each target is driven in a round."),
    ("Run", "rounds", click.IntRange(1), 10, "NUMBER", "Rounds; in each the targets take turns in a new order."),
    ("Run", "warmup", click.IntRange(0), 1, "NUMBER", "Rounds before them, which do not count."),
    (
        "Run",
        "cpu",
        click.IntRange(0),
        None,
        "NUMBER",
        "Keep the load generator on this CPU (Linux), and give the others to what is measured, as with taskset.",
    ),
    ("Run", "seed", click.IntRange(0, 2**64 - 1), 0, "NUMBER", "Decides orders and arrivals."),
    ("Run", "timeout", _ABOVE_0, 30.0, "SECONDS", "How long an answer may take after its turn has ended."),
    (
        "Run",
        "check",
        click.Choice(("events", "content", "status")),
        "events",
        "WHAT",
        (
            "What makes an answer right, so that it counts. events: its text, and the number of events with text, are "
            "the first target's; content: its text is; status: it is a whole answer, for engines that answer "
            "differently each time."
        ),
    ),
    (
        "Report",
        "reference",
        str,
        None,
        "NAME",
        "Divide by what this target has and adds, as a ratio of two proxies.  [default: divide by what the first has]",
    ),
    (
        "Report",
        "pid",
        str,
        (),
        "NAME=PID",
        (
            "The process behind a target: report CPU and memory of it and its children (Linux), and with 100 streams "
            "or more what each of them takes, if it was just started; may be repeated."
        ),
    ),
    ("Report", "json", _FILE, None, "FILE", "Write all numbers and settings, machine, versions and date."),
    (
        "Report",
        "html",
        _FILE,
        None,
        "FILE",
        "Write a page with the distributions; it needs pip install 'fastwrap[bench]'.",
    ),
    (
        "Report",
        "fail_if",
        str,
        (),
        "CONDITION",
        (
            "Exit with 1 if it is so: METRIC OPERATOR NUMBER, of every target, or NAME.METRIC ...; may be repeated. "
            "--fail-if help lists the metrics."
        ),
    ),
)


class _Option(click.Option):
    """An option that stands in a section of the help, named by its class's ``group``."""


class SectionedCommand(click.Command):
    """A command whose help has a section for each group of options."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections, all with one width of the first column."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", "Report"), []).append(record)
        width = max(len(term) for rows in groups.values() for term, _ in rows)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows], col_max=width)


def bench_options(command: Command) -> Command:
    """Give a command the options of ``fastwrap bench``."""
    for group, name, kind, default, metavar, text in reversed(_OPTIONS):
        shown = f"{default:g}" if isinstance(default, float) else default
        option = click.option(
            "--" + name.replace("_", "-"),
            name,
            cls=type("_Option", (_Option,), {"group": group}),
            type=kind,
            is_flag=kind is bool,
            default=default,
            multiple=default == (),
            metavar=metavar,
            help=text if default in (None, (), "{}") or default is False else f"{text}  [default: {shown}]",
            callback=_size if name == "request_bytes" else None,
        )
        command = option(command)
    return command
