"""Any engine that keeps to OpenAI's API: what is assumed of one that was not recognised."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend


async def _recognises(_ask: Ask) -> bool:
    return True


# What its JSON has beside the members of a stream is not known: no `json_form`.
BACKEND = Backend(name="openai", health_path="/v1/models", recognises=_recognises)
