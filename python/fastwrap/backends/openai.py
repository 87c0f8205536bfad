"""Any engine that keeps to OpenAI's API: what is assumed of one that was not recognised."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend


async def _recognises(_ask: Ask) -> bool:
    return True


#: ``nvext.timing`` is NVIDIA Dynamo's, for who asks for it with ``nvext.extra_fields``.
# What its JSON has beside the members of a stream is not known: no `json_form`.
BACKEND = Backend(
    name="openai",
    health_path="/v1/models",
    recognises=_recognises,
    engine_members=("nvext.timing",),
    engine_fields=(
        ("prefill_wait_time_ms", "queue_ms", 1.0),
        ("prefill_time_ms", "prefill_ms", 1.0),
        ("ttft_ms", "ttft_ms", 1.0),
        ("total_time_ms", "latency_ms", 1.0),
        ("kv_hit_rate", "kv_hit_rate", 1.0),
    ),
)
