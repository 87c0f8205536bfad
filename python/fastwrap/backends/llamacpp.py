"""llama.cpp's ``llama-server``."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend


async def _recognises(ask: Ask) -> bool:
    reply = await ask("/")
    return reply.headers.get("server") == "llama.cpp"


# Where the token limit cuts a text within a character, or within what may become a stop, its JSON has the rest, and its
# stream does not: no `json_form`.
BACKEND = Backend(
    name="llamacpp",
    health_path="/health",
    recognises=_recognises,
    usage_per_choice=True,
    closes_after_stream=True,
    engine_members=("timings",),
    engine_fields=(
        ("prompt_ms", "prefill_ms", 1.0),
        ("predicted_ms", "generation_ms", 1.0),
        ("predicted_per_token_ms", "tpot_ms", 1.0),
        ("predicted_per_second", "output_tokens_per_second", 1.0),
        ("cache_n", "cached_tokens", 1.0),
        ("draft_n", "draft_tokens", 1.0),
        ("draft_n_accepted", "accepted_draft_tokens", 1.0),
    ),
    gauges=(("llamacpp:requests_processing", "running"), ("llamacpp:requests_deferred", "waiting")),
)
