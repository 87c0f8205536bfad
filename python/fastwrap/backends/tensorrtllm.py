"""TensorRT-LLM's ``trtllm-serve``. Whoever reads its ``/metrics`` or ``/perf_metrics`` empties them: never asked."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, owns_models


async def _recognises(ask: Ask) -> bool:
    return owns_models(await ask("/v1/models"), "tensorrt_llm")


BACKEND = Backend(
    name="tensorrtllm",
    health_path="/health",
    recognises=_recognises,
    metrics_path="/prometheus/metrics",
    gauges=(
        ("trtllm_kv_cache_utilization", "kv_cache_usage"),
        ("trtllm_num_requests_running", "running"),
        ("trtllm_num_requests_waiting", "waiting"),
    ),
)
