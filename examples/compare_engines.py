r"""Compare engines on the same prompts, each started by fastwrap, one after the other, and print one table.

    python examples/compare_engines.py                      # two simulated engines: nothing to install
    python examples/compare_engines.py --prompts prompts.txt --repeat 5 \
        'vLLM=vllm serve Qwen/Qwen3-0.6B' 'llama.cpp=llama-server -m qwen3-0.6b.gguf --port 8001'
    python examples/compare_engines.py here=http://127.0.0.1:8000 there=http://10.0.0.2:8000

Needs: pip install 'fastwrap[client]'
"""

from __future__ import annotations

import shlex
import socket
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fastwrap import FastwrapError, InferenceEnv, InferenceServerWrapper

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastwrap.client import Performance

PROMPTS = ("Why is the sky blue?", "Write a haiku about queues.", "Explain paged attention to a child.")
#: Two that differ: one begins sooner, the other writes faster.
SIMULATED = {"eager": "--ttft-ms 20 --itl-ms 8", "fluent": "--ttft-ms 60 --itl-ms 4"}

#: A line's heading, and the number of one answer; None if it was not measured.
NUMBERS: dict[str, Callable[[Performance], float | None]] = {
    "TTFT, ms": lambda one: one.ttft_ms,
    "TPOT, ms": lambda one: one.tpot_ms,
    "latency, ms": lambda one: one.latency_ms,
    "tokens/s": lambda one: one.output_tokens_per_second,
    "GPU peak, MiB": lambda one: one.peak_memory_mb,
    "RAM peak, MiB": lambda one: one.host_memory.rss_peak_mb if one.host_memory else None,
    "energy/token, J": lambda one: one.energy_per_output_token_j,
}


def environment(engine: str) -> InferenceEnv:
    """Return the environment of a command or a URL."""
    return InferenceServerWrapper(engine) if engine.startswith(("http", "unix:")) else InferenceEnv(shlex.split(engine))


def simulated() -> dict[str, str]:
    """Return the commands of two simulated engines, on free ports."""
    commands = {}
    for name, options in SIMULATED.items():
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        commands[name] = f"{shlex.quote(sys.executable)} -m fastwrap engine --port {port} {options}"
    return commands


def measure(name: str, engine: str, prompts: Sequence[str], tokens: int) -> list[Performance]:
    """Ask an engine, once in vain, for the first answer pays for what is loaded late; then for the records."""
    with environment(engine) as env:
        env.chat(prompts[0], max_tokens=tokens)
        for prompt in track(prompts, name, console=Console(stderr=True)):
            env.chat(prompt, max_tokens=tokens)
        return env.records()[1:]


def median(records: Sequence[Performance], number: Callable[[Performance], float | None]) -> str:
    """Return the median of what was measured, as text; a dash if nothing was."""
    values = [value for one in records if (value := number(one)) is not None]
    return f"{statistics.median(values):,.2f}" if values else "-"


@click.command()
@click.argument("engines", nargs=-1, metavar="[NAME=COMMAND|NAME=URL]...")
@click.option("--prompts", type=click.Path(exists=True, path_type=Path), help="A file with a prompt a line.")
@click.option("--repeat", type=click.IntRange(1), default=3, show_default=True, help="How often each prompt is asked.")
@click.option("--tokens", type=click.IntRange(1), default=64, show_default=True, help="Most tokens of an answer.")
def main(engines: tuple[str, ...], prompts: Path | None, repeat: int, tokens: int) -> None:
    """Compare ENGINES on the same prompts; without any, two simulated ones."""
    asked = [line for line in prompts.read_text("utf-8").splitlines() if line.strip()] if prompts else [*PROMPTS]
    commands = dict(one.split("=", 1) for one in engines) or simulated()
    try:
        records = {name: measure(name, engine, repeat * asked, tokens) for name, engine in commands.items()}
    except FastwrapError as error:
        raise click.ClickException(str(error)) from error
    table = Table(f"median of {repeat * len(asked)} answers", *records)
    for heading, number in NUMBERS.items():
        table.add_row(heading, *(median(answers, number) for answers in records.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
