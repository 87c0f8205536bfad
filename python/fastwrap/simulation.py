"""The options of the simulated engine, shared by ``fastwrap engine`` and ``fastwrap demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

FLAVORS = ("openai", "vllm", "sglang", "tgi", "transformers", "llamacpp", "ollama")


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of ``_native.serve_engine``."""
    for option in reversed(
        (
            click.option("--flavor", type=click.Choice(FLAVORS), default="vllm", help="Whose wire format to speak."),
            click.option("--ttft-ms", type=click.FloatRange(0), default=0.0, help="Time to the first token."),
            click.option("--itl-ms", type=click.FloatRange(0), default=0.0, help="Time between two tokens."),
            click.option("--tokens", type=click.IntRange(1), default=16, help="Tokens in an answer."),
            click.option("--tokens-per-chunk", type=click.IntRange(1), default=1, help="Tokens in one event."),
            click.option("--seed", type=click.IntRange(0), default=0, help="Decides the text."),
            click.option("--model", default="tiny", help="The model's name."),
        )
    ):
        command = option(command)
    return command
