"""The ``performance`` block for Python clients: typed, and read from whatever an answer came as.

    answer = openai.OpenAI(base_url=...).chat.completions.create(...)
    print(performance_of(answer).ttft_ms)

    stream = MeasuredStream(openai.OpenAI(base_url=...).chat.completions.create(..., stream=True))
    for chunk in stream: ...
    print(stream.performance.tpot_ms)

The fields are those of ``performance.schema.json``, where each is described. None: it was not measured, and
``unavailable`` says why. Members of a later version are left out.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

_T = TypeVar("_T")
#: Ours where the engine has a ``performance`` of its own; ours.
_NAMES = ("fastwrap_performance", "performance")
#: A member that no engine has in a ``performance`` of its own.
_MARK = "measured_as"
_HEADER = "x-performance-metrics"


@dataclass(frozen=True, kw_only=True)
class InterChunk:
    """Gaps between chunks with text, in ms."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    stalls: int


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of several choices."""

    index: int
    ttft_ms: float
    chunks: int


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """What a gauge of the engine's said meanwhile."""

    start: float
    peak: float
    end: float


@dataclass(frozen=True, kw_only=True)
class EngineNumbers:
    """What the engine says; ``numbers`` are those of this request, by name."""

    kv_cache_usage: Gauge | None = None
    running: Gauge | None = None
    waiting: Gauge | None = None
    gauge_samples: int | None = None
    ttft_difference_ms: float | None = None
    latency_difference_ms: float | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class HostMemory:
    """Resident memory of the engine's processes, in MiB."""

    rss_start_mb: float
    rss_end_mb: float
    rss_peak_mb: float
    rss_delta_mb: float
    processes: int
    samples: int


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One device."""

    uuid: str
    memory_start_mb: float | None
    memory_end_mb: float | None
    memory_peak_mb: float | None
    memory_delta_mb: float | None
    memory_reserved_mb: float | None
    samples: int
    sample_interval_ms: float | None
    largest_gap_ms: float
    energy_j: float | None
    attributed_energy_j: float | None
    energy_window_ms: float | None
    energy_method: Literal["counter", "power_integral"] | None
    power_mean_w: float | None
    power_peak_w: float | None
    power_method: Literal["instant", "average_1s"] | None
    utilization: float | None
    temperature_max_c: int | None
    sm_clock_mean_mhz: float | None
    throttle_reasons: tuple[str, ...] | None
    unavailable: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Performance:
    """What an answer cost."""

    latency_ms: float | None
    ttft_ms: float | None
    tpot_ms: float | None
    memory_delta_mb: float | None
    peak_memory_mb: float | None
    memory_start_mb: float | None
    memory_end_mb: float | None
    first_byte_ms: float | None
    first_chunk_ms: float | None
    first_answer_ms: float | None
    inter_chunk_ms: InterChunk | None
    chunks: int | None
    choices: tuple[Choice, ...] | None
    prompt_tokens: int | None
    completion_tokens: int | None
    reasoning_tokens: int | None
    cached_tokens: int | None
    accepted_prediction_tokens: int | None
    token_source: Literal["usage"] | None
    output_tokens_per_second: float | None
    proxy_overhead_ms: float | None
    engine: EngineNumbers | None
    host_memory: HostMemory | None
    energy_j: float | None
    attributed_energy_j: float | None
    energy_per_output_token_j: float | None
    gpu: tuple[Gpu, ...] | None
    concurrent_requests: int
    measured_as: Literal["stream", "json"]
    backend: str
    request_id: str
    outcome: Literal["complete", "error", "cancelled", "incomplete"]
    error_type: str | None
    unavailable: Mapping[str, str]

    @classmethod
    def read(cls, block: Mapping[str, Any]) -> Performance:
        """Return a block that was parsed as JSON.

        Raises:
            TypeError: If it is none: it lacks a member.
        """
        return _read(cls, block)


_hints = cache(get_type_hints)


def _read(kind: Callable[..., _T], members: Mapping[str, Any]) -> _T:
    hints = _hints(kind)
    known = {name: _value(hints[name], value) for name, value in members.items() if name in hints}
    if kind is EngineNumbers:
        known["numbers"] = {name: value for name, value in members.items() if name not in hints}
    return kind(**known)


def _value(hint: Any, value: Any) -> Any:
    for one in (hint, *get_args(hint)):
        if isinstance(value, dict) and isinstance(one, type) and dataclasses.is_dataclass(one):
            return _read(one, value)
        if isinstance(value, list) and get_origin(one) is tuple:
            return tuple(_value(get_args(one)[0], item) for item in value)
    return value


def performance_of(answer: object) -> Performance | None:
    """Return the block of an answer, of a chunk, or of a line of an event stream.

    Args:
        answer: Of the ``openai`` client, or any pydantic model that keeps extras; an ``httpx`` or ``requests`` response
            that was read; parsed JSON; or a line ``data: {...}``.

    Returns:
        None if there is no block, wherever fastwrap may put it: the body, ``usage``, or the header.
    """
    members = _members(answer)
    for holder in (members, _members(members.get("usage"))):
        for name in _NAMES:
            if isinstance(block := holder.get(name), Mapping) and _MARK in block:
                return Performance.read(block)
    header = getattr(answer, "headers", {}).get(_HEADER)
    return Performance.read(json.loads(header)) if header else None


def _members(answer: object) -> Mapping[str, Any]:
    if isinstance(answer, (str, bytes)):
        return _event(answer.encode() if isinstance(answer, str) else answer)
    if isinstance(answer, Mapping):
        return answer
    extra = getattr(answer, "model_extra", None)  # pydantic's, whose json() is another
    if extra is not None:
        return {**extra, "usage": getattr(answer, "usage", None)}
    read = getattr(answer, "json", None)
    value = read() if callable(read) else None
    return value if isinstance(value, Mapping) else {}


def _event(line: bytes) -> Mapping[str, Any]:
    data = line.strip().removeprefix(b"data:").strip()
    if not data.startswith(b"{") or _NAMES[1].encode() not in data:
        return {}
    value: Mapping[str, Any] = json.loads(data)
    return value


class MeasuredStream(Generic[_T]):
    """Passes the chunks of a stream on, and keeps the block that one of them carries.

    Args:
        chunks: A stream of the ``openai`` client, sync or async; or lines, as ``httpx`` responses give them.

    Attributes:
        performance: The block, once its chunk has passed: after the last one, if the stream was whole.
    """

    def __init__(self, chunks: Iterable[_T] | AsyncIterable[_T]) -> None:
        self._chunks = chunks
        self.performance: Performance | None = None

    def __iter__(self) -> Iterator[_T]:
        if not isinstance(self._chunks, Iterable):
            raise TypeError("it is an async stream: use async for")
        for chunk in self._chunks:
            self._look(chunk)
            yield chunk

    async def __aiter__(self) -> AsyncIterator[_T]:
        if not isinstance(self._chunks, AsyncIterable):
            raise TypeError("it is no async stream: use for")
        async for chunk in self._chunks:
            self._look(chunk)
            yield chunk

    def _look(self, chunk: _T) -> None:
        self.performance = performance_of(chunk) or self.performance
