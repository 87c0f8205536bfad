"""The counters as Prometheus reads them; prometheus-client writes the exposition."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prometheus_client.metrics_core import Metric

    from fastwrap._native import Meter

#: The histograms of a route in the order of ``Meter.routes``; names of OpenTelemetry's GenAI conventions.
_HISTOGRAMS = (
    ("gen_ai_server_request_duration_seconds", "Request received to last byte of the answer."),
    ("gen_ai_server_time_to_first_token_seconds", "Request received to first text, queue included (streams)."),
    ("gen_ai_server_time_per_output_token_seconds", "Time per output token after the first (streams)."),
)
#: The columns of ``GpuLog.latest`` after the UUID, and what they are multiplied by; names of OpenTelemetry's hardware
#: conventions and, beyond them, OpenLIT's.
_GPU_GAUGES = (
    ("hw_gpu_memory_usage_bytes", "Memory in use, without what the driver reserved.", 1.0),
    ("hw_gpu_memory_limit_bytes", "Memory in all.", 1.0),
    ("hw_gpu_utilization_ratio", "Share of the time with a kernel running.", 1e-2),
    ("hw_gpu_power_draw_watts", "Power.", 1e-3),
    ("hw_gpu_energy_consumed_joules", "Energy since it is sampled.", 1e-6),
    ("hw_gpu_temperature_celsius", "Temperature.", 1.0),
)
_GEN_AI_LABELS = ("gen_ai_operation_name", "gen_ai_provider_name")


class _Collector:
    """Reads the native counters once a scrape."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def collect(self) -> Iterator[Metric]:
        from prometheus_client import core  # noqa: PLC0415 (start-up time: needed at the first scrape)

        requests = core.CounterMetricFamily(
            "fastwrap_requests", "Requests that ended, by how they ended.", labels=("operation", "outcome")
        )
        for operation, outcome, count in self._meter.requests():
            requests.add_metric((operation, outcome), count)
        yield requests
        yield core.GaugeMetricFamily(
            "fastwrap_requests_in_flight", "Requests being served.", value=self._meter.in_flight()
        )
        yield core.CounterMetricFamily(
            "fastwrap_internal_errors",
            "Panics and exceptions: faults of fastwrap's own, each of which one client met.",
            value=self._meter.internal_errors(),
        )
        yield from self._hooks()
        if (last := self._meter.host_memory.last()) is not None:
            yield core.GaugeMetricFamily(
                "fastwrap_engine_resident_memory_bytes", "Host memory of the engine's processes.", value=last[1][0]
            )
        tokens = core.CounterMetricFamily(
            "fastwrap_tokens", "Tokens as the engine's usage counts them.", labels=("operation", "type")
        )
        histograms = [core.HistogramMetricFamily(name, text, labels=_GEN_AI_LABELS) for name, text in _HISTOGRAMS]
        provider = self._meter.backend
        for operation, (prompt, completion), rows in self._meter.routes():
            tokens.add_metric((operation, "input"), prompt)
            tokens.add_metric((operation, "output"), completion)
            for family, (bounds, counts, total) in zip(histograms, rows, strict=True):
                if sum(counts):
                    family.add_metric((operation, provider), _cumulated(bounds, counts), sum_value=total)
        yield tokens
        yield from histograms
        yield from self._gpus()

    def _hooks(self) -> Iterator[Metric]:
        from prometheus_client import core  # noqa: PLC0415 (as above)

        errors = core.CounterMetricFamily(
            "fastwrap_hook_errors", "Hooks of plugins that failed or took too long.", labels=("hook",)
        )
        dropped = core.CounterMetricFamily(
            "fastwrap_hook_dropped", "What hooks were not told, for too much waited for them.", labels=("hook",)
        )
        for hook, counts in self._meter.hooks():
            for family, count in zip((errors, dropped), counts, strict=True):
                family.add_metric((hook,), count)
        yield errors
        yield dropped

    def _gpus(self) -> Iterator[Metric]:
        from prometheus_client import core  # noqa: PLC0415 (as above)

        families: list[core.GaugeMetricFamily | core.CounterMetricFamily] = [
            (core.CounterMetricFamily if "energy" in name else core.GaugeMetricFamily)(name, text, labels=("hw_id",))
            for name, text, _ in _GPU_GAUGES
        ]
        for uuid, *values in self._meter.gpu.latest():
            for family, (_, _, scale), value in zip(families, _GPU_GAUGES, values, strict=True):
                if value is not None:
                    family.add_metric((uuid,), value * scale)
        yield from (family for family in families if family.samples)


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    return list(zip(names, accumulate(counts), strict=True))


def exposition(meter: Meter) -> tuple[str, bytes]:
    """Return the content type and the text of a scrape."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(meter))
    return CONTENT_TYPE_LATEST, generate_latest(registry)
