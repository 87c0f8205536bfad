"""Hugging Face Text Generation Inference."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, json_object


async def _recognises(ask: Ask) -> bool:
    info = json_object(await ask("/info"))
    return info.get("router") == "text-generation-router" or {"model_id", "max_concurrent_requests"} <= info.keys()


#: Its numbers are those of answers that are no streams. ``x-time-per-token`` divides by all tokens, the first included.
# Whether its JSON has the text of its stream to the byte has not been seen on a running engine: no `json_form`.
BACKEND = Backend(
    name="tgi",
    health_path="/health",
    recognises=_recognises,
    gauges=(("tgi_batch_current_size", "running"), ("tgi_queue_size", "waiting")),
    engine_headers=(
        ("x-validation-time", "validation_ms", 1.0),
        ("x-queue-time", "queue_ms", 1.0),
        ("x-inference-time", "inference_ms", 1.0),
        ("x-time-per-token", "time_per_token_ms", 1.0),
        ("x-total-time", "latency_ms", 1.0),
    ),
)
