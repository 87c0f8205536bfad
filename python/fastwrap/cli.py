"""The command line."""

from __future__ import annotations

import difflib
import sys
from typing import Any

import click

from fastwrap import _native, descriptors
from fastwrap.bench import bench
from fastwrap.errors import FastwrapError
from fastwrap.options import SettingsCommand, names_of, settings_from, settings_options
from fastwrap.run import run
from fastwrap.settings import Settings
from fastwrap.simulation import engine_options

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_MAIN_EPILOG = """\b
First steps:
  fastwrap demo                                     see it work
  fastwrap serve --upstream http://127.0.0.1:8000   stand before your engine
  fastwrap run -- vllm serve Qwen/Qwen3-0.6B        start the engine, too
  fastwrap serve --help                             all options
"""

_SERVE_EPILOG = """
Every option can also be set as FASTWRAP_<OPTION> in the environment, or in the TOML file of --config.
The command line comes before the environment, the environment before the file.

\b
Examples:
  fastwrap serve --upstream http://127.0.0.1:8000
  fastwrap serve --upstream unix:/run/engine.sock --host 0.0.0.0 --port 80
  fastwrap serve --upstream http://127.0.0.1:8000 --uds /run/fastwrap.sock
  fastwrap serve --upstream http://127.0.0.1:11434 --enrich body,server-timing
  FASTWRAP_PORT=9000 fastwrap serve --config fastwrap.toml

\b
Then, instead of the engine, ask fastwrap:
  curl http://127.0.0.1:8080/v1/models
"""

_ENGINE_EPILOG = """\b
Examples:
  fastwrap engine --ttft-ms 200 --itl-ms 20 --tokens 100
  fastwrap engine --flavor ollama --port 11434
"""

_DEMO_EPILOG = """\b
Examples:
  fastwrap demo
  fastwrap demo --flavor llamacpp --ttft-ms 400
  fastwrap demo --keep        engine and proxy stay, to be asked with curl
"""

_DOCTOR_EPILOG = """\b
Examples:
  fastwrap doctor
  fastwrap doctor --upstream http://127.0.0.1:8000 --port 8080
  fastwrap doctor --config fastwrap.toml --json

The exit code is 1 if fastwrap could not serve, else 0.
"""


class _Group(click.Group):
    """Commands in the order they are to be tried in, and a suggestion for one that does not exist."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return [*self.commands]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and name not in self.commands:
            near = difflib.get_close_matches(name, self.commands, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(self.commands)}"
            ctx.fail(f"there is no command {name!r}; {hint}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, context_settings=_CONTEXT, epilog=_MAIN_EPILOG)
@click.version_option(_native.__version__, prog_name="fastwrap")
def main() -> None:
    """Measure what every request to your LLM engine costs, without touching engine or client.

    fastwrap stands in front of an inference engine and passes everything on unchanged, but for one thing: every
    answer says what it cost, in time, tokens and GPU memory.
    """


@main.command(cls=SettingsCommand, epilog=_DEMO_EPILOG, short_help="See it work, with a simulated engine.")
@click.option("--keep", is_flag=True, help="Leave engine and proxy running until Ctrl-C.")
@engine_options(ttft_ms=150.0, itl_ms=30.0, tokens=32)
def demo(*, keep: bool, **engine: Any) -> None:
    """See it work: a simulated engine, fastwrap in front of it, one chat, and what that cost."""
    from fastwrap import demo as demonstration  # noqa: PLC0415 (start-up time)

    try:
        demonstration.run(keep=keep, **engine)
    except FastwrapError as error:
        raise click.ClickException(str(error)) from error


@main.command(
    cls=SettingsCommand, epilog=_SERVE_EPILOG, short_help="Stand in front of an engine, and measure every request."
)
@settings_options(*names_of(Settings))
def serve(**values: Any) -> None:
    """Stand in front of an engine, and add to every answer what it cost.

    Point OpenAI clients at fastwrap instead of the engine: the API is the engine's own, unchanged. Answers gain a
    member "performance". fastwrap's own routes are /-/healthy, /-/ready and /-/metrics.
    """
    from fastwrap import servers  # noqa: PLC0415 (start-up time)

    settings = settings_from(values)

    def on_start(address: str) -> None:
        click.echo(f"fastwrap on {address} -> {settings.upstream}", err=True)
        if settings.log_level != "error":
            _look_for_engine(settings)

    try:
        servers.serve(settings, on_start)
    except FastwrapError as error:
        raise click.ClickException(str(error)) from error


def _look_for_engine(settings: Settings) -> None:
    """Warn soon if the engine cannot be reached, in the background: serving does not wait for it."""
    import threading  # noqa: PLC0415

    from fastwrap.doctor.reach import reach  # noqa: PLC0415

    def look() -> None:
        try:
            reach(settings.upstream, settings.connect_timeout or None)
        except OSError as error:
            click.echo(
                f"Warning: {settings.upstream} cannot be reached: {error.strerror or error}. If the engine is still "
                "loading, just wait: fastwrap serves, and answers 502 until then. Otherwise correct --upstream.",
                err=True,
            )

    # Later than the first requests, and than the fork of Granian's workers: a thread must not be busy in that moment.
    timer = threading.Timer(0.5, look)
    timer.daemon = True
    timer.start()


main.add_command(run)


@main.command(
    cls=SettingsCommand, epilog=_DOCTOR_EPILOG, short_help="What is here, what is missing, and what to do about it."
)
@settings_options("upstream", "host", "port", "uds", "api_key_file", "upstream_api_key_file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for machines.")
def doctor(*, as_json: bool, **options: Any) -> None:
    """Look for all that serving needs: Python, modules, GPU, engine, port; and say what to do about what is missing.

    It takes the same options, variables and file as serve, and changes nothing.
    """
    from fastwrap.doctor import report  # noqa: PLC0415 (start-up time)
    from fastwrap.doctor.examination import examine  # noqa: PLC0415

    checks = examine(**options)
    click.echo(report.to_json(checks)) if as_json else report.show(checks)
    report.leave(1 if report.worst(checks) == "problem" else 0)


@main.command(cls=SettingsCommand, epilog=_ENGINE_EPILOG, short_help="Serve a simulated engine, to try things with.")
@click.option("--host", default="127.0.0.1", metavar="ADDRESS", help="Address to listen on.  [default: 127.0.0.1]")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    metavar="PORT",
    help="Port to listen on; 0 takes a free one and says which.  [default: 8000]",
)
@engine_options()
def engine(host: str, port: int, **options: Any) -> None:
    """Serve a simulated engine: it speaks real engines' wire formats and generates nonsense, fast."""

    def on_ready(chosen: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        click.echo(f"simulated {options['flavor']} engine on http://{shown}:{chosen}", err=True)

    descriptors.raise_limit()
    try:
        _native.serve_engine(host=host, port=port, on_ready=on_ready, **options)
    except OSError as error:
        hint = "stop what listens there, or choose another port with --port"
        raise click.ClickException(f"{host}:{port} cannot be listened on: {error}; {hint}") from error
    except (ValueError, OverflowError) as error:
        raise click.UsageError(str(error)) from error


main.add_command(bench)


if __name__ == "__main__":
    sys.exit(main())
