"""The command line."""

from __future__ import annotations

from typing import Any

import click

from fastwrap import _native
from fastwrap.errors import FastwrapError
from fastwrap.options import settings_from, settings_options
from fastwrap.simulation import engine_options

_EPILOG = "Every option can also be given as FASTWRAP_OPTION in the environment, or as option = value in a TOML file."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(_native.__version__, prog_name="fastwrap")
def main() -> None:
    """Measure what every request to your LLM engine costs, without touching engine or client.

    \b
    fastwrap demo                                  see it work, with a simulated engine
    fastwrap serve --upstream http://127.0.0.1:8000    stand in front of your engine
    fastwrap doctor                                what is here, and what is missing
    """


@main.command(epilog=_EPILOG)
@settings_options
def serve(**values: Any) -> None:
    """Stand in front of an engine, and add to every answer what it cost.

    Point OpenAI clients at fastwrap instead of the engine: the API is the engine's own, unchanged. Answers gain a
    member "performance". fastwrap's own routes are /-/healthy, /-/ready and /-/metrics.
    """
    from fastwrap import server  # noqa: PLC0415 (start-up time)

    settings = settings_from(values)

    def on_start(host: str, port: int) -> None:
        click.echo(f"fastwrap on http://{host}:{port} -> {settings.upstream}", err=True)

    try:
        server.serve(settings, on_start)
    except FastwrapError as error:
        raise click.ClickException(str(error)) from error


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, help="Port to listen on; 0 takes a free one.")
@engine_options
def engine(host: str, port: int, **options: Any) -> None:
    """Serve a simulated engine: it speaks real engines' wire formats and generates nonsense, fast."""

    def on_ready(chosen: int) -> None:
        click.echo(f"simulated {options['flavor']} engine on http://{host}:{chosen}", err=True)

    try:
        _native.serve_engine(host=host, port=port, on_ready=on_ready, **options)
    except OSError as error:
        raise click.ClickException(f"{host}:{port} cannot be listened on: {error}") from error


