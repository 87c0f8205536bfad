"""SGLang. Its ``/health`` generates a token and takes a second: never asked."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, json_object


async def _recognises(ask: Ask) -> bool:
    for path in ("/model_info", "/get_model_info"):  # older versions have the second only
        if {"model_path", "is_generation"} <= json_object(await ask(path)).keys():
            return True
    return False


#: ``meta_info`` is in chat answers that are no streams, for who asks for it with ``return_meta_info``, and in those of
#: its own ``/generate``; in seconds.
# Its JSON has ``metadata`` (which weights wrote which tokens) that its streams do not tell: no `json_form`.
#: The gauges are there under ``--enable-metrics``.
BACKEND = Backend(
    name="sglang",
    health_path="/ready",
    recognises=_recognises,
    engine_members=("choices.meta_info", "meta_info"),
    engine_fields=(
        ("queue_time", "queue_ms", 1e3),
        ("first_token_latency", "ttft_ms", 1e3),
        ("e2e_latency", "latency_ms", 1e3),
        ("decode_throughput", "output_tokens_per_second", 1.0),
    ),
    gauges=(
        ("sglang:token_usage", "kv_cache_usage"),
        ("sglang:num_running_reqs", "running"),
        ("sglang:num_queue_reqs", "waiting"),
    ),
)
