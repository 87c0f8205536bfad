"""When samples are taken: the curve they find, their rate, edges, and the end of the thread.

Lower bounds on gaps are exact; upper ones are generous, for a busy machine may be late but never early.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastwrap import gpu
from fastwrap.gpu.sampler import Pace
from proxy.processes import until

if TYPE_CHECKING:
    from gpu.conftest import FakeNvml, RecordingLog

DEADLINE_S = 20.0
MS = 1_000_000


def test_the_peak_of_the_curve_is_found(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 100 250 900 300 200", "gpu GPU-bbbb 1 2 3 4 5")
    log.begin_request()
    start()
    assert [used for _, used in log.until_pushes(5)] == [[100, 1], [250, 2], [900, 3], [300, 4], [200, 5]]


def test_samples_carry_the_monotonic_time(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    begin_ns = log.begin_request()
    start()
    times_ns = [at_ns for at_ns, _ in log.until_pushes(3)]
    stamps_ns = [begin_ns, *times_ns, time.monotonic_ns()]
    assert stamps_ns == sorted(set(stamps_ns))


def test_in_flight_samples_are_50_ms_apart(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    log.begin_request()
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
    log.begin_request()
    start()
    log.until_pushes(7)
    assert log.gaps_ns[-1] >= 250 * MS  # on its way to 200 x 2 ms
    assert log.gaps_ns[-1] > log.gaps_ns[1]


def gap_ns(pace: Pace, at_ns: int, *, is_busy: bool = True) -> int:
    return pace.due_ns(is_busy=is_busy) - at_ns


def test_the_interval_is_200_times_the_average_cost() -> None:
    pace = Pace(50 * MS)
    for _ in range(60):
        pace.learn(0, 2 * MS)
    assert gap_ns(pace, 2 * MS) == pytest.approx(400 * MS, rel=0.01)
    assert gap_ns(pace, 2 * MS, is_busy=False) == 1000 * MS
    for _ in range(60):
        pace.learn(0, 20_000)
    assert gap_ns(pace, 20_000) == 50 * MS
    pace.is_wanted = True
    assert gap_ns(pace, 20_000) == 5 * MS


def test_one_slow_round_does_not_blind_the_sampler() -> None:
    pace = Pace(50 * MS)
    for cost_ns in (20_000, 20_000, 5000 * MS):
        pace.learn(0, cost_ns)
    assert gap_ns(pace, 5000 * MS) < 200 * MS


def test_each_kind_has_its_interval(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    log.begin_request()
    start()
    log.until_rounds("condition", 3)
    for kind, interval_ms in (("power", 100), ("utilization", 500), ("condition", 1000)):
        gaps_ns = log.gaps_ns_of(kind)[
            1:
        ]  # after the first, power is read where it is seen that requests are in flight
        assert min(gaps_ns) >= interval_ms * MS, kind
        assert min(gaps_ns) < 2 * interval_ms * MS, kind


def test_a_slow_kind_does_not_slow_the_others(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]
) -> None:
    nvml.says("gpu GPU-aaaa 1", "utilization GPU-aaaa 5", "latency nvmlDeviceGetUtilizationRates 20000")
    log.begin_request()
    start()
    log.until_rounds("utilization", 3)
    gaps_ns = log.gaps_ns_of("utilization")
    assert min(gaps_ns) >= 800 * MS  # on its way to 200 x 20 ms
    assert sorted(log.gaps_ns)[len(log.gaps_ns) // 2] < 500 * MS


def test_energy_is_read_where_requests_begin_to_be_served_and_where_none_is_left(
    log: RecordingLog, start: Callable[[], gpu.GpuSampler]
) -> None:
    start()
    log.until_rounds("power", 1)
    for edge in (log.begin_request, log.end_request):
        edge_ns = edge()
        log.until(lambda at_ns=edge_ns: log.rounds["power"][-1][0] >= at_ns)  # type: ignore[misc]
        assert log.rounds["power"][-1][0] - edge_ns < 90 * MS or edge == log.begin_request


def test_a_request_is_sampled_where_it_begins_and_ends(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    start()
    log.until_pushes(1)
    for edge in (log.begin_request, log.end_request):
        edge_ns = edge()
        log.until_push_after(edge_ns)
        if edge == log.end_request:  # idle: but for the edge, the next sample would come a second after the last
            assert log.pushes[-1][0] - edge_ns < 900 * MS
    assert min(log.gaps_ns) >= 5 * MS


def test_edges_close_together_share_a_sample(log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    start()
    log.until_pushes(1)
    edges = 2000
    for _ in range(edges // 2):
        log.begin_request()
        end_ns = log.end_request()
    log.until_push_after(end_ns)
    assert min(log.gaps_ns) >= 5 * MS
    assert 2 <= len(log.pushes) < edges / 4
    assert log.pushes[-1][0] - end_ns < 900 * MS


def test_slow_calls_make_edges_rarer(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "latency nvmlDeviceGetMemoryInfo_v2 20000")
    start()
    log.until_pushes(1)
    for count in range(2, 6):
        log.begin_request()
        log.end_request()
        log.until_pushes(count)
    assert log.gaps_ns[-1] >= 100 * MS  # far above 5 ms: on its way to 20 x 20 ms


@pytest.mark.parametrize("function", ["nvmlInitWithFlags", "nvmlDeviceGetMemoryInfo_v2"])
def test_a_library_that_hangs_holds_nobody_up(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], function: str
) -> None:
    nvml.says("gpu GPU-aaaa 1", f"hang {function}")
    begin_ns = time.monotonic_ns()
    sampler = start()
    assert time.monotonic_ns() - begin_ns < 1000 * MS
    until(lambda: nvml.calls(function), "it hangs")
    begin_ns = time.monotonic_ns()
    sampler.stop(timeout_s=0.05)
    assert time.monotonic_ns() - begin_ns < 1000 * MS
    assert sampler.is_alive()
    assert not log.pushes
    assert not log.reasons
    nvml.says("gpu GPU-aaaa 1")
    sampler.stop(DEADLINE_S)
    assert not sampler.is_alive()


def test_stop_ends_the_thread(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    sampler = start()
    log.until_pushes(1)
    assert any(thread.name == "fastwrap-gpu" and thread.daemon for thread in threading.enumerate())
    sampler.stop()
    assert not sampler.is_alive()
    assert nvml.calls("nvmlShutdown") == 1
    pushes = len(log.pushes)
    log.begin_request()
    sampler.stop()  # twice does no harm
    assert len(log.pushes) == pushes


def test_a_sampler_can_follow_another(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "error nvmlInitWithFlags 9")
    failed = start()
    assert log.until_reason() == "driver_not_loaded"
    failed.stop()
    log.reasons.clear()
    nvml.says("gpu GPU-aaaa 7 7")
    start()
    assert log.until_pushes(1)[0][1] == [7]


def test_whoever_cannot_share_samples_for_itself(
    log: RecordingLog, start: Callable[[], gpu.GpuSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards: list[Path | None] = []
    named: list[Sequence[str]] = []

    def share(path: Path | None = None) -> None:
        boards.append(path)
        if path is not None:
            raise OSError(errno.ENOSPC, "no room")

    start()
    log.until_pushes(1)
    monkeypatch.setattr(log, "share", share)
    monkeypatch.setattr(log, "devices", named.append)
    start()  # would follow the other one
    log.until(lambda: named)
    assert len(boards) == 2
    assert boards[1] is None
