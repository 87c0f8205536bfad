"""SGLang. Its ``/health`` generates a token and takes a second: never asked."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, json_object


async def _recognises(ask: Ask) -> bool:
    for path in ("/model_info", "/get_model_info"):  # older versions have the second only
        if {"model_path", "is_generation"} <= json_object(await ask(path)).keys():
            return True
    return False


# Its JSON has ``metadata`` (which weights wrote which tokens) that its streams do not tell: no `json_form`.
#: The gauges are there under ``--enable-metrics``.
BACKEND = Backend(
    name="sglang",
    health_path="/ready",
    recognises=_recognises,
    gauges=(
        ("sglang:token_usage", "kv_cache_usage"),
        ("sglang:num_running_reqs", "running"),
        ("sglang:num_queue_reqs", "waiting"),
    ),
)
