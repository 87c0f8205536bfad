"""One adapter a file. To add an engine: write its file, and name it here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastwrap.backends import llamacpp, lmdeploy, ollama, openai, sglang, tensorrtllm, tgi, transformers, vllm

if TYPE_CHECKING:
    from fastwrap.backends.base import Ask, Backend

#: In the order in which an unknown engine is compared with them; ``openai`` recognises any.
BACKENDS: tuple[Backend, ...] = tuple(
    module.BACKEND for module in (llamacpp, ollama, vllm, sglang, tgi, transformers, lmdeploy, tensorrtllm, openai)
)


def backend(name: str) -> Backend:
    """Return the adapter called ``name``.

    Raises:
        KeyError: If there is none.
    """
    return {one.name: one for one in BACKENDS}[name]


async def recognise(ask: Ask) -> Backend:
    """Return the adapter of the engine that answers."""
    for one in BACKENDS:
        if await one.recognises(ask):
            return one
    return openai.BACKEND
