"""The command line of ``fastwrap run``."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastwrap import holder
from fastwrap.errors import FastwrapError, PortError, SettingsError
from fastwrap.options import SettingsCommand, names_of, settings_from, settings_options, supervision_from
from fastwrap.run import launch
from fastwrap.settings import Settings, Supervision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastwrap.gate import Gate

_EPILOG = """
Which engine it is and where it will listen is read from its command: vllm serve, python -m
vllm.entrypoints.openai.api_server, python -m sglang.launch_server, text-generation-launcher, transformers serve,
llama-server, ollama serve. For any other name --upstream.

\b
Examples:
  fastwrap run -- vllm serve Qwen/Qwen3-0.6B
  fastwrap run --port 80 --host 0.0.0.0 -- ollama serve
  fastwrap run --restart on-failure -- llama-server -m tiny.gguf --port 8000
  fastwrap run --upstream http://127.0.0.1:8000 -- ./start.sh

The exit code is the engine's; 128 + the signal's number if it was killed.
"""


@click.command(
    cls=SettingsCommand,
    epilog=_EPILOG,
    short_help="Start an engine, stand in front of it, end with it.",
    context_settings={"allow_interspersed_args": False},
)
@click.argument("command", nargs=-1, required=True, metavar="-- ENGINE COMMAND...", type=click.UNPROCESSED)
@settings_options(*names_of(Supervision), *names_of(Settings))
def run(command: tuple[str, ...], **values: Any) -> None:
    """Start an engine, stand in front of it, and end with it: the entry point of a container.

    The port is open from the beginning; until the engine is ready, requests get 503 with Retry-After. SIGTERM lets
    requests in flight end, then ends the engine. No end of fastwrap's leaves an engine behind.
    """
    supervision = supervision_from(values)
    settings = settings_from(_completed(command, values))
    try:
        sys.exit(_run(settings, supervision, command))
    except FastwrapError as error:
        raise click.ClickException(str(error)) from error


def _completed(command: Sequence[str], values: dict[str, Any]) -> dict[str, Any]:
    """Add to the settings what the engine's command says."""
    try:
        found = launch.recognise(command, os.environ)
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    if found is None and not values["upstream"]:
        raise click.UsageError(
            "fastwrap cannot tell from this command where the engine will listen. Say it:\n\n"
            "  fastwrap run --upstream http://127.0.0.1:8000 -- ..."
        )
    if found is not None:
        values["upstream"] = values["upstream"] or found.upstream
        if values["backend"] == "auto":
            values["backend"] = found.backend
    return values


def _check_places(settings: Settings) -> None:
    """Let nobody start an engine where somebody listens already.

    Raises:
        PortError: If the engine is to listen where fastwrap is, or where another process does.
    """
    from fastwrap.doctor.reach import reach  # noqa: PLC0415 (start-up time)

    if not settings.uds and settings.upstream == f"http://{settings.host}:{settings.port}":
        raise PortError(
            f"both the engine and fastwrap would listen on {settings.upstream}: give one of them another port"
        )
    try:
        reach(settings.upstream, 1.0)
    except OSError:
        return
    raise PortError(f"{settings.upstream} is taken: stop what listens there, or give the engine another port")


def _run(settings: Settings, supervision: Supervision, command: Sequence[str]) -> int:
    import asyncio  # noqa: PLC0415 (start-up time, as all of these)
    import multiprocessing  # noqa: PLC0415

    from fastwrap.gate import Gate  # noqa: PLC0415
    from fastwrap.servers.base import claim  # noqa: PLC0415

    _check_places(settings)
    settings = replace(settings, port=claim(settings).port)
    with tempfile.TemporaryDirectory(prefix="fastwrap-") as directory:
        gate = Gate(Path(directory) / "gate")
        # A fork, before there is a thread or an event loop: it costs no second start of Python.
        proxy = multiprocessing.get_context("fork").Process(target=_serve, args=(settings, gate, os.getpid()))
        proxy.start()
        from fastwrap.run.supervisor import Supervisor  # noqa: PLC0415 (the proxy needs none of it)

        return asyncio.run(Supervisor(settings, supervision, command, gate, proxy.pid or 0).run())


def _serve(settings: Settings, gate: Gate, parent: int) -> None:
    """Be the proxy: in a group of its own, so that a terminal's signals go to the supervisor alone."""
    from fastwrap import servers  # noqa: PLC0415 (start-up time)

    os.setpgid(0, 0)
    holder.end_with_parent(parent, signal.SIGTERM)
    try:
        servers.serve(settings, partial(_announce, settings.upstream), gate)
    except FastwrapError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)


def _announce(upstream: str, address: str) -> None:
    with contextlib.suppress(OSError):  # the engine is not to end because nobody listens
        click.echo(f"fastwrap on {address} -> {upstream}", err=True)
