"""Ollama, through its OpenAI routes. Asked for usage, its completions carry it in every chunk, zeros at first."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend


async def _recognises(ask: Ask) -> bool:
    reply = await ask("/")
    return reply.body == b"Ollama is running"


BACKEND = Backend(name="ollama", health_path="/api/version", recognises=_recognises, usage_in_chunks=True)
