"""Ollama, through its OpenAI routes."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend


async def _recognises(ask: Ask) -> bool:
    reply = await ask("/")
    return reply is not None and reply.body == b"Ollama is running"


BACKEND = Backend(name="ollama", health_path="/api/version", recognises=_recognises)
