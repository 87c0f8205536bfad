"""vLLM."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, json_object

_UNAUTHORIZED = 401


async def _recognises(ask: Ask) -> bool:
    """``/version`` is open; ``/v1/models`` names its owner, or is guarded by ``--api-key``."""
    if "version" not in json_object(await ask("/version")):
        return False
    models = await ask("/v1/models")
    if models.status == _UNAUTHORIZED:
        return True
    data = json_object(models).get("data")
    return isinstance(data, list) and any(isinstance(one, dict) and one.get("owned_by") == "vllm" for one in data)


#: ``metrics`` is there under ``--enable-per-request-metrics``; its TTFT counts from scheduling, the queue excluded.
BACKEND = Backend(
    name="vllm",
    health_path="/health",
    recognises=_recognises,
    engine_member="metrics",
    engine_member_with_usage=True,
    engine_fields=(
        ("queue_time_ms", "queue_ms", 1.0),
        ("time_to_first_token_ms", "ttft_ms", 1.0),
        ("generation_time_ms", "generation_ms", 1.0),
        ("mean_itl_ms", "tpot_ms", 1.0),
        ("tokens_per_second", "output_tokens_per_second", 1.0),
    ),
)
