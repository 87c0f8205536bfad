"""LMDeploy's ``api_server``."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, owns_models


async def _recognises(ask: Ask) -> bool:
    return owns_models(await ask("/v1/models"), "lmdeploy")


#: The gauges are there under ``--enable-metrics``.
BACKEND = Backend(
    name="lmdeploy",
    health_path="/health",
    recognises=_recognises,
    gauges=(
        ("lmdeploy:gpu_cache_usage_perc", "kv_cache_usage"),
        ("lmdeploy:num_requests_running", "running"),
        ("lmdeploy:num_requests_waiting", "waiting"),
    ),
)
