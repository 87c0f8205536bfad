"""Ollama. Asked for usage, its OpenAI completions carry it in every chunk, zeros at first."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, JsonForm


async def _recognises(ask: Ask) -> bool:
    reply = await ask("/")
    return reply.body == b"Ollama is running"


#: ``reasoning`` follows ``content`` where there is some, in JSON as in streams.
_JSON_FORM = JsonForm(
    chat={
        "id": None,
        "object": "chat.completion",
        "created": None,
        "model": None,
        "system_fingerprint": None,
        "choices": [{"index": None, "message": {"role": "assistant", "content": ""}, "finish_reason": None}],
        "usage": {},
    },
    completions={
        "id": None,
        "object": "text_completion",
        "created": None,
        "model": None,
        "system_fingerprint": None,
        "choices": [{"text": "", "index": None, "finish_reason": None}],
        "usage": {},
    },
    end="\n",
)

#: Its numbers are in the answers of its own API only; in nanoseconds.
BACKEND = Backend(
    name="ollama",
    health_path="/api/version",
    recognises=_recognises,
    usage_in_chunks=True,
    engine_members=("",),
    engine_fields=(
        ("load_duration", "load_ms", 1e-6),
        ("prompt_eval_duration", "prefill_ms", 1e-6),
        ("eval_duration", "generation_ms", 1e-6),
        ("total_duration", "latency_ms", 1e-6),
    ),
    json_form=_JSON_FORM,
)
