"""``transformers serve``: usage stands on the finish chunk whether asked for or not, and there is no ``[DONE]``."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend

_METHOD_NOT_ALLOWED = 405


async def _recognises(ask: Ask) -> bool:
    """It has no route that names it; none but it has ``POST /load_model``."""
    reply = await ask("/load_model")
    return reply.status == _METHOD_NOT_ALLOWED


# Where a text ends within a character, its JSON has replacement characters, and its stream nothing: no `json_form`.
BACKEND = Backend(name="transformers", health_path="/health", recognises=_recognises, stream_usage=False, done=False)
