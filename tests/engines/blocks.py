"""What is true of a `performance` block, whatever the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engines import wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.processes import Site
    from engines.wire import Json

#: Times are rounded to three decimals.
ROUNDING_MS = 0.002


def place(events: Sequence[str]) -> int:
    """Return where the block belongs: the last event with `choices`; of typed events, the last."""
    with_choices = [index for index, event in enumerate(events) if "choices" in (wire.data(event) or {})]
    return with_choices[-1] if with_choices else len(events) - 1


def check(block: Json, site: Site, usage: Json, wall_ms: float) -> None:
    """Check what every block says; `wall_ms` is how long the client waited."""
    assert block["backend"] == site.kind.name
    assert block["outcome"] == "complete"
    assert block["request_id"]
    assert block["concurrent_requests"] == 1
    assert 0 < block["latency_ms"] <= wall_ms
    assert 0 < block["first_byte_ms"] <= block["latency_ms"]
    assert 0 <= block["proxy_overhead_ms"] <= wall_ms
    _check_tokens(block, usage)
    for name in block:
        if name != "unavailable":
            assert (block[name] is None) == bool(block["unavailable"].get(name)), (name, block)
    assert {name.partition(".")[0] for name in block["unavailable"]} < set(block)


def _check_tokens(block: Json, usage: Json) -> None:
    prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
    assert block["token_source"] == "usage"  # noqa: S105 (no password)
    assert block["completion_tokens"] == usage.get("completion_tokens", usage.get("output_tokens"))
    if "cache_read_input_tokens" not in usage:
        assert block["prompt_tokens"] == prompt
    if tokens := block["completion_tokens"]:
        assert block["output_tokens_per_second"] == pytest.approx(tokens / block["latency_ms"] * 1000, rel=0.01)


#: What a starved machine may do to an engine's pace: it reads a whole answer in one go.
_NO_PACE = ("all_in_one_read", "fewer_than_2_chunks")


def check_choices(block: Json) -> None:
    """Check what the block of a stream of two choices says of them; both had text."""
    choices = block["choices"]
    assert [choice["index"] for choice in choices] == [0, 1]
    assert min(choice["ttft_ms"] for choice in choices) == block["ttft_ms"]
    assert sum(choice["chunks"] for choice in choices) == block["chunks"]
    tokens = block["completion_tokens"] - len(choices)
    if block["tpot_ms"] is None:
        assert block["unavailable"]["tpot_ms"] in _NO_PACE
    else:
        spans = sum(block["latency_ms"] - choice["ttft_ms"] for choice in choices)
        assert 0 < block["tpot_ms"] * tokens <= spans + tokens * ROUNDING_MS


def check_stream(block: Json, site: Site, usage: Json) -> None:
    """Check what a stream's block says besides; `usage` is of the same answer."""
    check(block, site, usage, float("inf"))
    latency, ttft, tpot = block["latency_ms"], block["ttft_ms"], block["tpot_ms"]
    assert block["first_byte_ms"] <= block["first_chunk_ms"] <= ttft <= latency
    assert block["first_answer_ms"] >= ttft
    assert block["chunks"] >= 1
    if tpot is None:
        assert block["unavailable"]["tpot_ms"] in _NO_PACE
        return
    gaps = block["completion_tokens"] - 1
    assert tpot * gaps <= latency - ttft + gaps * ROUNDING_MS
    spread = block["inter_chunk_ms"]
    assert spread["mean"] * (block["chunks"] - 1) == pytest.approx(tpot * gaps, abs=(gaps + 1) * ROUNDING_MS)
    assert 0 <= spread["p50"] <= spread["p90"] <= spread["p99"] <= spread["max"]
