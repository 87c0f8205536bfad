"""The options of the simulated engine, shared by ``fastwrap engine`` and ``fastwrap demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

FLAVORS = ("openai", "vllm", "sglang", "tgi", "transformers", "llamacpp", "ollama")

#: Name, type, default, placeholder and help of each option of ``_native.serve_engine``.
_OPTIONS: tuple[tuple[str, Any, Any, str, str], ...] = (
    ("flavor", click.Choice(FLAVORS), "vllm", "NAME", f"Whose wire format to speak: {', '.join(FLAVORS)}."),
    ("ttft_ms", click.FloatRange(0), 0.0, "MS", "Milliseconds to the first token."),
    ("itl_ms", click.FloatRange(0), 0.0, "MS", "Milliseconds between two tokens."),
    ("tokens", click.IntRange(1), 16, "NUMBER", "Tokens in an answer, unless the request asks for fewer."),
    ("tokens_per_chunk", click.IntRange(1), 1, "NUMBER", "Tokens in one event of a stream."),
    ("seed", click.IntRange(0), 0, "NUMBER", "Decides the text: the same seed, the same answers."),
    ("model", str, "tiny", "NAME", "The model's name."),
)


def flag(name: str) -> str:
    """The option of the command line for a name."""
    return "--" + name.replace("_", "-")


def engine_options(**defaults: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of ``_native.serve_engine``, some with another default."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for name, kind, default, metavar, text in reversed(_OPTIONS):
            value = defaults.get(name, default)
            shown = f"{value:g}" if isinstance(value, float) else value
            option = click.option(
                flag(name), name, type=kind, default=value, metavar=metavar, help=f"{text}  [default: {shown}]"
            )
            command = option(command)
        return command

    return decorate
