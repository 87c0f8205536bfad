"""llama.cpp's ``llama-server``."""

from __future__ import annotations

from typing import Any

from fastwrap.backends.base import Ask, Backend, JsonForm


async def _recognises(ask: Ask) -> bool:
    reply = await ask("/")
    return reply.headers.get("server") == "llama.cpp"


#: ``timings`` follow, in JSON as in streams.
_END: dict[str, Any] = {"usage": {}, "id": None}
_JSON_FORM = JsonForm(
    chat={
        "choices": [{"finish_reason": None, "index": None, "message": {"role": "assistant", "content": ""}}],
        "created": None,
        "model": None,
        "system_fingerprint": None,
        "object": "chat.completion",
        **_END,
    },
    completions={
        "choices": [{"text": "", "index": None, "logprobs": None, "finish_reason": None}],
        "created": None,
        "model": None,
        "system_fingerprint": None,
        "object": "text_completion",
        **_END,
    },
    content_type="application/json; charset=utf-8",
)

BACKEND = Backend(
    name="llamacpp",
    health_path="/health",
    recognises=_recognises,
    usage_per_choice=True,
    closes_after_stream=True,
    engine_member="timings",
    engine_fields=(
        ("prompt_ms", "prefill_ms", 1.0),
        ("predicted_ms", "generation_ms", 1.0),
        ("predicted_per_token_ms", "tpot_ms", 1.0),
        ("predicted_per_second", "output_tokens_per_second", 1.0),
        ("cache_n", "cached_tokens", 1.0),
        ("draft_n", "draft_tokens", 1.0),
        ("draft_n_accepted", "accepted_draft_tokens", 1.0),
    ),
    json_form=_JSON_FORM,
)
