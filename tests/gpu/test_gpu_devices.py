"""Which devices are sampled: CUDA_VISIBLE_DEVICES as CUDA reads it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from gpu.conftest import FakeNvml, RecordingLog

MACHINE = ("gpu GPU-aaaa-1 100", "gpu GPU-aabb-2 200", "gpu GPU-cccc-3 300")
A, B, C = "GPU-aaaa-1", "GPU-aabb-2", "GPU-cccc-3"
MIG_MACHINE = ("gpu GPU-aaaa-1 100", "mig MIG-x-1 0 11", "mig MIG-x-2 0 22", "gpu GPU-cccc-3 300", "mig MIG-y-1 1 33")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        pytest.param(None, [A, B, C], id="absent-is-all"),
        pytest.param("1", [B], id="index"),
        pytest.param("2,0", [C, A], id="order-of-the-list"),
        pytest.param(" 2 , 1 ", [C, B], id="spaces"),
        pytest.param("0,2,-1,1", [A, C], id="ends-at-minus-one"),
        pytest.param("0,7,1", [A], id="ends-at-an-index-too-high"),
        pytest.param("1x,0", [B, A], id="digits-first-like-strtoul"),
        pytest.param("0,,1", [A], id="ends-at-an-empty-entry"),
        pytest.param(B, [B], id="uuid"),
        pytest.param(f"{C},{A}", [C, A], id="uuids"),
        pytest.param("GPU-cc", [C], id="unique-prefix"),
        pytest.param("GPU-AAB", [B], id="prefix-in-capitals"),
        pytest.param("GPU-cc,GPU-aa,GPU-aab", [C], id="ends-at-an-ambiguous-prefix"),
        pytest.param("GPU-cc,GPU-zz,GPU-aab", [C], id="ends-at-an-unknown-uuid"),
        pytest.param("GPU-cc,0", [C], id="ends-at-another-form"),
        pytest.param("0,GPU-cc", [A], id="ends-at-another-form-after-indices"),
    ],
)
def test_shows_what_cuda_shows(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch,
    visible: str | None, expected: list[str],
) -> None:  # fmt: skip
    nvml.says(*MACHINE)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    start()
    [(_, used_bytes)] = log.until_pushes(1)
    assert log.uuids == expected
    assert used_bytes == [{A: 100, B: 200, C: 300}[uuid] for uuid in expected]


@pytest.mark.parametrize("visible", ["", "-1", "NoDevFiles", "9", "0,0", "GPU-aa", f"{A},GPU-aaaa", "MIG-none", ",0"])
def test_shows_nothing(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    nvml.says(*MACHINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    start()
    assert log.until_reason() == "no_visible_device"
    assert log.uuids is None


def test_a_driver_without_gpus(nvml: FakeNvml, log: RecordingLog, start: Callable[[], object]) -> None:
    nvml.says()
    start()
    assert log.until_reason() == "no_visible_device"


def test_a_list_of_mig_instances_ends_at_a_gpu(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MIG_MACHINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-x-1,GPU-cccc-3")
    start()
    log.until_pushes(1)
    assert log.uuids == ["MIG-x-1"]


def test_mig_instances_by_uuid(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MIG_MACHINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-x-2,MIG-y-1,MIG-gone,MIG-x-1")
    start()
    assert log.until_pushes(1)[0][1] == [22, 33]
    assert log.uuids == ["MIG-x-2", "MIG-y-1"]


@pytest.mark.parametrize("visible", ["0", "GPU-cccc-3"])
def test_a_gpu_in_mig_mode_is_not_taken_whole(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch, visible: str
) -> None:
    nvml.says(*MIG_MACHINE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    start()
    assert log.until_reason() == "mig_unsupported"
    assert log.uuids is None


@pytest.mark.parametrize("code", [3, 13])
def test_a_gpu_that_knows_no_mig_mode(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], code: int
) -> None:
    nvml.says(*MACHINE, f"error nvmlDeviceGetMigMode {code}")
    start()
    log.until_pushes(1)
    assert log.uuids == [A, B, C]


def test_a_broken_neighbour_does_not_hide_a_gpu_named_by_uuid(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MACHINE, f"error nvmlDeviceGetHandleByIndex_v2:{A} 15")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-cc")
    start()
    log.until_pushes(1)
    assert log.uuids == [C]


def test_a_broken_gpu_that_is_asked_for_is_reported(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], object]
) -> None:
    nvml.says(*MACHINE, f"error nvmlDeviceGetHandleByIndex_v2:{B} 15")
    start()
    assert log.until_reason() == "gpu_lost"


def test_all_are_the_gpus_and_the_instances_of_those_in_mig_mode(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MIG_MACHINE, "gpu GPU-dddd-4 400")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    start("all")
    assert log.until_pushes(1)[0][1] == [11, 22, 33, 400]
    assert log.uuids == ["MIG-x-1", "MIG-x-2", "MIG-y-1", "GPU-dddd-4"]


@pytest.mark.parametrize(("devices", "expected"), [("2,0", [C, A]), ("GPU-cc", [C]), (f"{B},{A}", [B, A])])
def test_devices_that_are_named_come_before_all_else(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch,
    devices: str, expected: list[str],
) -> None:  # fmt: skip
    nvml.says(*MACHINE, f"process {B} 77")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    start(devices, lambda: frozenset({77}))
    log.until_pushes(1)
    assert log.uuids == expected
    assert nvml.calls("nvmlDeviceGetComputeRunningProcesses_v3") == 0


def test_a_named_device_that_is_not_there_is_said(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], caplog: pytest.LogCaptureFixture
) -> None:
    nvml.says(*MACHINE)
    start("1,9")
    log.until_pushes(1)
    assert log.uuids == [B]
    assert "1,9" in caplog.text


def test_the_devices_of_the_engines_processes(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MACHINE, f"process {B} 5 77 6", f"process {C} 78", f"process {A} 5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    log.begin_request()
    start("", lambda: frozenset({77, 78, 79}))
    log.until_pushes(3)
    assert log.uuids == [B, C]
    # Twice a device in a look: for their number, and for them. Never in the sampling loop.
    assert nvml.calls("nvmlDeviceGetComputeRunningProcesses_v3") <= 6


def test_an_engine_on_instances(nvml: FakeNvml, log: RecordingLog, start: Callable[..., object]) -> None:
    nvml.says(*MIG_MACHINE, "process MIG-x-2 77")
    start("", lambda: frozenset({77}))
    log.until_pushes(1)
    assert log.uuids == ["MIG-x-2"]


def test_an_engine_that_comes_later_is_found(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.says(*MACHINE, f"process {C} {os.getpid()}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    engine: set[int] = set()
    log.begin_request()
    start("", lambda: frozenset(engine))
    log.until_pushes(1)
    assert log.uuids == [B, A]
    assert nvml.calls("nvmlDeviceGetComputeRunningProcesses_v3") == 0  # the driver is not asked for nobody
    engine.add(os.getpid())
    log.until(lambda: log.uuids == [C])
    log.until(lambda: log.pushes[-1][1] == [300])


def test_process_ids_of_a_container_match_nothing(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    nvml.says(*MACHINE, f"process {C} 70077")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with caplog.at_level(logging.INFO, "fastwrap.gpu"):
        start("", lambda: frozenset({77}))
        log.until_pushes(1)
    assert log.uuids == [B]
    assert "--gpu-devices" in caplog.text


def test_processes_that_cannot_be_found_are_none(
    nvml: FakeNvml, log: RecordingLog, start: Callable[..., object]
) -> None:
    def fail() -> frozenset[int]:
        raise PermissionError

    nvml.says(*MACHINE)
    start("", fail)
    log.until_pushes(1)
    assert log.uuids == [A, B, C]
