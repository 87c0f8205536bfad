"""When samples are taken: the curve they find, their rate, edges, and the end of the thread.

Lower bounds on gaps are exact; upper ones are generous, for a busy machine may be late but never early.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from fastwrap import gpu

if TYPE_CHECKING:
    from gpu.conftest import FakeNvml, RecordingLog

DEADLINE_S = 20.0
MS = 1_000_000


def test_the_peak_of_the_curve_is_found(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 0 100 250 900 300 200", "gpu GPU-bbbb 0 1 2 3 4 5")  # the first asks for the version
    log.begin()
    start()
    assert [used for _, used in log.until_pushes(5)] == [[100, 1], [250, 2], [900, 3], [300, 4], [200, 5]]


def test_samples_carry_the_monotonic_time(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    begin_ns = log.begin()
    start()
    times_ns = [at_ns for at_ns, _ in log.until_pushes(3)]
    stamps_ns = [begin_ns, *times_ns, time.monotonic_ns()]
    assert stamps_ns == sorted(set(stamps_ns))


def test_in_flight_samples_are_50_ms_apart(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    log.begin()
    start()
    log.until_pushes(2)  # begin() may itself be an edge after the first
    first = len(log.pushes)
    log.until_pushes(first + 6)
    gaps_ns = log.gaps_ns[first:]
    assert min(gaps_ns) >= 50 * MS
    assert sorted(gaps_ns)[len(gaps_ns) // 2] < 500 * MS


def test_idle_samples_are_a_second_apart(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    start()
    log.until_pushes(3)
    assert min(log.gaps_ns) >= 1000 * MS
    assert min(log.gaps_ns) < 1900 * MS


def test_slow_calls_are_made_less_often(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "latency nvmlDeviceGetMemoryInfo_v2 2000")
    log.begin()
    start()
    log.until_pushes(7)
    assert log.gaps_ns[-1] >= 250 * MS  # on its way to 200 x 2 ms
    assert log.gaps_ns[-1] > log.gaps_ns[1]


def test_the_interval_is_200_times_the_average_cost(log: RecordingLog) -> None:
    pace = gpu.GpuSampler(log)
    for _ in range(60):
        pace._learn(2 * MS)
    assert pace._gap_ns(50 * MS) == pytest.approx(400 * MS, rel=0.01)
    assert pace._gap_ns(1000 * MS) == 1000 * MS
    for _ in range(60):
        pace._learn(20_000)
    assert pace._gap_ns(50 * MS) == 50 * MS


def test_one_slow_round_does_not_blind_the_sampler(log: RecordingLog) -> None:
    pace = gpu.GpuSampler(log)
    for cost_ns in (20_000, 20_000, 5000 * MS):
        pace._learn(cost_ns)
    assert pace._gap_ns(50 * MS) < 200 * MS


def test_a_request_is_sampled_where_it_begins_and_ends(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    start()
    log.until_pushes(1)
    for edge in (log.begin, log.end):
        edge_ns = edge()
        log.until_push_after(edge_ns)
        if edge == log.end:  # idle: but for the edge, the next sample would come a second after the last
            assert log.pushes[-1][0] - edge_ns < 900 * MS
    assert min(log.gaps_ns) >= 5 * MS


def test_edges_close_together_share_a_sample(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    start()
    log.until_pushes(1)
    edges = 2000
    for _ in range(edges // 2):
        log.begin()
        end_ns = log.end()
    log.until_push_after(end_ns)
    assert min(log.gaps_ns) >= 5 * MS
    assert 2 <= len(log.pushes) < edges / 4
    assert log.pushes[-1][0] - end_ns < 900 * MS


def test_slow_calls_make_edges_rarer(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "latency nvmlDeviceGetMemoryInfo_v2 20000")
    start()
    log.until_pushes(1)
    for count in range(2, 6):
        log.begin()
        log.end()
        log.until_pushes(count)
    assert log.gaps_ns[-1] >= 100 * MS  # far above 5 ms: on its way to 20 x 20 ms


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetMemoryInfo_v2"])
def test_a_library_that_hangs_holds_nobody_up(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], function: str
) -> None:
    nvml.says("gpu GPU-aaaa 1", f"hang {function}")
    begin_ns = time.monotonic_ns()
    sampler = start()
    sampler.stop(timeout_s=0.05)
    assert time.monotonic_ns() - begin_ns < 1000 * MS
    assert sampler._thread.is_alive()
    assert not log.pushes
    assert not log.reasons
    nvml.says("gpu GPU-aaaa 1")
    sampler.stop(DEADLINE_S)
    assert not sampler._thread.is_alive()


def test_stop_ends_the_thread(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    sampler = start()
    log.until_pushes(1)
    assert any(thread.name == "fastwrap-gpu" and thread.daemon for thread in threading.enumerate())
    sampler.stop()
    assert not sampler._thread.is_alive()
    assert nvml.calls("nvmlShutdown") == 1
    pushes = len(log.pushes)
    log.begin()
    sampler.stop()  # twice does no harm
    assert len(log.pushes) == pushes


def test_a_sampler_can_follow_another(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "error nvmlInitWithFlags 9")
    start()
    assert log.until_reason() == "driver_not_loaded"
    log.reasons.clear()
    nvml.says("gpu GPU-aaaa 7 7")
    start()
    assert log.until_pushes(1)[0][1] == [7]
