"""vLLM."""

from __future__ import annotations

from fastwrap.backends.base import Ask, Backend, JsonForm, json_object, owns_models

_UNAUTHORIZED = 401


async def _recognises(ask: Ask) -> bool:
    """``/version`` is open; ``/v1/models`` names its owner, or is guarded by ``--api-key``."""
    if "version" not in json_object(await ask("/version")):
        return False
    models = await ask("/v1/models")
    return models.status == _UNAUTHORIZED or owns_models(models, "vllm")


_USAGE = {
    "prompt_tokens": None,
    "total_tokens": None,
    "completion_tokens": None,
    "prompt_tokens_details": {"cached_tokens": None, "created_cache_tokens": None, "multimodal_tokens": None},
    "completion_tokens_details": {"reasoning_tokens": None},
}
_METRICS = {
    "time_to_first_token_ms": None,
    "generation_time_ms": None,
    "queue_time_ms": None,
    "mean_itl_ms": None,
    "tokens_per_second": None,
    "speculative_decoding": None,
}
#: Its JSON has every member of its schema, null or not: those of 0.32. With a ``--reasoning-parser``, which the details
#: of the completion tell of, a stream parts reasoning and answer token by token, and JSON as a whole: not always alike.
_JSON_FORM = JsonForm(
    fingerprint="vllm-0.32.",
    parted_by="completion_tokens_details",
    chat={
        "id": None,
        "object": "chat.completion",
        "created": None,
        "model": None,
        "choices": [
            {
                "index": None,
                "message": {
                    "role": None,
                    "content": None,
                    "refusal": None,
                    "annotations": None,
                    "audio": None,
                    "function_call": None,
                    "reasoning": None,
                },
                "logprobs": None,
                "finish_reason": None,
                "stop_reason": None,
                "token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": _USAGE,
        "prompt_logprobs": None,
        "prompt_token_ids": None,
        "prompt_text": None,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": _METRICS,
    },
    completions={
        "id": None,
        "object": "text_completion",
        "created": None,
        "model": None,
        "choices": [
            {
                "index": None,
                "text": "",
                "logprobs": None,
                "finish_reason": None,
                "stop_reason": None,
                "token_ids": None,
                "prompt_logprobs": None,
                "prompt_token_ids": None,
                "routed_experts": None,
            }
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "usage": _USAGE,
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": _METRICS,
    },
)

#: ``metrics`` is there under ``--enable-per-request-metrics``; its TTFT counts from scheduling, the queue excluded.
BACKEND = Backend(
    name="vllm",
    health_path="/health",
    recognises=_recognises,
    engine_members=("metrics",),
    engine_member_with_usage=True,
    engine_fields=(
        ("queue_time_ms", "queue_ms", 1.0),
        ("time_to_first_token_ms", "ttft_ms", 1.0),
        ("generation_time_ms", "generation_ms", 1.0),
        ("mean_itl_ms", "tpot_ms", 1.0),
        ("tokens_per_second", "output_tokens_per_second", 1.0),
        ("speculative_decoding.num_accepted_draft_tokens", "accepted_draft_tokens", 1.0),
        ("speculative_decoding.draft_acceptance_rate", "draft_acceptance_rate", 1.0),
        ("speculative_decoding.mean_acceptance_length", "mean_acceptance_length", 1.0),
    ),
    json_form=_JSON_FORM,
    gauges=(
        ("vllm:kv_cache_usage_perc", "kv_cache_usage"),
        ("vllm:gpu_cache_usage_perc", "kv_cache_usage"),  # before 0.10
        ("vllm:num_requests_running", "running"),
        ("vllm:num_requests_waiting", "waiting"),
    ),
)
