"""``transformers serve``: usage stands on the finish chunk whether asked for or not, and there is no ``[DONE]``."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, JsonForm

_METHOD_NOT_ALLOWED = 405


async def _recognises(ask: Ask) -> bool:
    """It has no route that names it; none but it has ``POST /load_model``."""
    reply = await ask("/load_model")
    return reply.status == _METHOD_NOT_ALLOWED


_USAGE = {"completion_tokens": None, "prompt_tokens": None, "total_tokens": None}
#: Where a text ends within a character, its JSON has a replacement character, and its stream nothing.
_JSON_FORM = JsonForm(
    chat={
        "id": None,
        "choices": [{"finish_reason": None, "index": None, "message": {"content": "", "role": "assistant"}}],
        "created": None,
        "model": None,
        "object": "chat.completion",
        "usage": _USAGE,
    },
    completions={
        "id": None,
        "choices": [{"finish_reason": None, "index": None, "text": ""}],
        "created": None,
        "model": None,
        "object": "text_completion",
        "usage": _USAGE,
    },
    stream_only=("system_fingerprint",),
)

BACKEND = Backend(
    name="transformers",
    health_path="/health",
    recognises=_recognises,
    stream_usage=False,
    done=False,
    json_form=_JSON_FORM,
)
