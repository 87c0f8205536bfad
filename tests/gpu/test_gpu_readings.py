"""What is read of a device: each in the best way that the driver knows, or its reason while the others go on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastwrap import gpu

if TYPE_CHECKING:
    from gpu.conftest import FakeNvml, RecordingLog

Start = Callable[..., gpu.GpuSampler]
GPU = (
    "gpu GPU-aaaa 1000",
    "reserved 912",
    "energy GPU-aaaa 0 100 5000",
    "power GPU-aaaa 700000",
    "average GPU-aaaa 650000",
    "utilization GPU-aaaa 87",
    "temperature GPU-aaaa 61",
    "clock GPU-aaaa 1980",
    "throttle GPU-aaaa 0x44",
)
TOTAL = 1 << 40
EVERYTHING: dict[str, list[int | str]] = {
    "memory": [1000, 912, TOTAL],
    "power": [5000, 700_000, 0],
    "utilization": [87],
    "condition": [61, 1980, 0x44],
}


def first_rows(log: RecordingLog) -> dict[str, list[int | str]]:
    """The first round of each kind, of the one device."""
    return {kind: log.until_rounds(kind)[0][0] for kind in EVERYTHING}


def test_everything_is_read(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    nvml.says(*GPU)
    start()
    assert first_rows(log) == EVERYTHING


@pytest.mark.parametrize(
    ("function", "kind", "column", "instead"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", "power", 0, ["REASON"]),
        ("nvmlDeviceGetFieldValues", "power", 1, [650_000, 1]),
        ("nvmlDeviceGetUtilizationRates", "utilization", 0, ["REASON"]),
        ("nvmlDeviceGetTemperature", "condition", 0, ["REASON"]),
        ("nvmlDeviceGetClockInfo", "condition", 1, ["REASON"]),
        ("nvmlDeviceGetCurrentClocksEventReasons", "condition", 2, [0x44]),
        ("nvmlDeviceGetMemoryInfo_v2", "memory", 0, [1912, "not_supported", TOTAL]),
    ],
)
@pytest.mark.parametrize(("code", "reason"), [(3, "not_supported"), (4, "no_permission"), (13, "version_mismatch")])
def test_what_one_device_lacks_does_not_hide_the_rest(
    nvml: FakeNvml, log: RecordingLog, start: Start, function: str, kind: str, column: int,
    instead: list[int | str], code: int, reason: str,
) -> None:  # fmt: skip
    nvml.says(*GPU, f"error {function} {code}")
    log.begin_request()
    start()
    wanted: dict[str, list[int | str]] = {name: [*row] for name, row in EVERYTHING.items()}
    wanted[kind][column : column + len(instead)] = [reason if value == "REASON" else value for value in instead]
    assert first_rows(log) == wanted
    log.until_rounds(kind, 2)
    assert nvml.calls(function) == 1  # asked once, not in every round
    assert not log.reasons


def test_power_without_either_way(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    nvml.says("gpu GPU-aaaa 1", "energy GPU-aaaa 0 100 7")
    start()
    assert first_rows(log)["power"] == [7, "not_supported", "not_supported"]


def test_memory_of_the_host_is_never_taken_for_the_gpus(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    """Unified memory (GB10, Jetson): the driver tells none, and the rest goes on."""
    nvml.says(*GPU, "error nvmlDeviceGetMemoryInfo_v2 3", "error nvmlDeviceGetMemoryInfo 3")
    start()
    assert first_rows(log) == {**EVERYTHING, "memory": ["not_supported"] * 3}
    assert not log.reasons


def test_utilization_that_cannot_be_is_none(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    nvml.says("gpu GPU-aaaa 1", "utilization GPU-aaaa 4294967295")
    start()
    assert first_rows(log)["utilization"] == ["not_supported"]


def test_an_instance_has_memory_of_its_own_and_nothing_else(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    nvml.says("gpu GPU-aaaa 100", "mig MIG-x-1 0 11", "power MIG-x-1 5", "utilization MIG-x-1 5")
    start("MIG-x-1")
    no = "mig_unsupported"
    assert first_rows(log) == {
        "memory": [11, 0, TOTAL],
        "power": [no, no, no],
        "utilization": [no],
        "condition": [no, no, no],
    }


def test_a_lost_gpu_ends_it_whatever_is_read(nvml: FakeNvml, log: RecordingLog, start: Start) -> None:
    nvml.says(*GPU, "error nvmlDeviceGetTemperature 15 2")
    start()
    assert log.until_reason() == "gpu_lost"
    assert len(log.rounds["condition"]) == 1


def test_a_driver_before_535(
    build_library: Callable[..., Path],
    clean_environment: dict[str, str],
    tmp_path: Path,
    readings_of: Callable[..., object],
) -> None:
    build_library(tmp_path, "-DBEFORE_535")
    (tmp_path / "nvml.txt").write_text("\n".join(GPU) + "\n")
    library = {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML": str(tmp_path / "nvml.txt")}
    assert readings_of({**clean_environment, **library}) == EVERYTHING


def test_what_is_lacking_is_logged(
    nvml: FakeNvml, log: RecordingLog, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    nvml.says("gpu GPU-aaaa 1", "power GPU-aaaa 1")
    with caplog.at_level(logging.INFO, "fastwrap.gpu"):
        start()
        log.until_pushes(2)
    assert "'energy': 'not_supported'" in caplog.text
    assert "'power'" not in caplog.text
