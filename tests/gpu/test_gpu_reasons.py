"""Why nothing is sampled: every failure becomes one reason, and none reaches the caller."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from ctypes.util import find_library
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pynvml  # noqa: TID251 (its codes are compared with ours)
import pytest

from fastwrap import gpu
from fastwrap.gpu import readings

if TYPE_CHECKING:
    from gpu.conftest import FakeNvml, RecordingLog

DEADLINE_S = 20.0
REASON_OF = {
    "NOT_SUPPORTED": "not_supported",
    "VGPU_ECC_NOT_SUPPORTED": "not_supported",
    "DEPRECATED": "not_supported",
    "NO_PERMISSION": "no_permission",
    "OPERATING_SYSTEM": "no_permission",
    "DRIVER_NOT_LOADED": "driver_not_loaded",
    "LIBRARY_NOT_FOUND": "library_not_found",
    "FUNCTION_NOT_FOUND": "version_mismatch",
    "LIB_RM_VERSION_MISMATCH": "version_mismatch",
    "ARGUMENT_VERSION_MISMATCH": "version_mismatch",
    "NOT_FOUND": "gpu_lost",
    "GPU_IS_LOST": "gpu_lost",
    "GPU_NOT_FOUND": "gpu_lost",
    "RESET_REQUIRED": "gpu_lost",
    "TIMEOUT": "sampler_stalled",
}
PREFIX = "NVML_ERROR_"
ERRORS = sorted(name.removeprefix(PREFIX) for name in dir(pynvml) if name.startswith(PREFIX))

CHILD = """
import atexit, json, threading
from fastwrap import gpu
from fastwrap.gpu import readings

class Log:
    told = threading.Event()
    awake = threading.Event()
    def share(self, path=None): pass
    def begin(self): pass
    def devices(self, uuids): self.uuids = list(uuids)
    def push(self, kind, at_ns, rows): self.say(uuids=self.uuids, kind=kind, rows=rows)
    def failed(self, reason): self.say(reason=reason)
    unavailable = failed
    def wait(self, timeout_ns): return self.awake.wait(timeout_ns / 1e9)
    def wake(self): self.awake.set()
    def in_flight(self): return 0
    def was_idle(self): return True
    def forget_dead(self): pass
    def say(self, **what):
        if not self.told.is_set(): print(json.dumps(what), flush=True)
        self.told.set()

# Runs after what the sampler registers: its thread must be gone before the interpreter is.
atexit.register(lambda: print(any(thread.name == "fastwrap-gpu" for thread in threading.enumerate())))
sampler = gpu.start_sampler("auto", Log(), gpu.Selection())
assert Log.told.wait(20)
"""


def child(environment: dict[str, str]) -> dict[str, object]:
    """Run the sampler in a Python of its own, which ends while the sampler runs; return the first thing it said."""
    command = [sys.executable, "-c", CHILD]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    first, thread_is_left = done.stdout.splitlines()
    assert thread_is_left == "False"
    said: dict[str, object] = json.loads(first)
    return said


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_has_its_reason(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], name: str
) -> None:
    nvml.says("gpu GPU-aaaa 1", f"error nvmlInitWithFlags {getattr(pynvml, PREFIX + name)}")
    start()
    reason = log.until_reason()
    assert reason == REASON_OF.get(name, "unknown_error")
    assert reason in get_args(gpu.Reason)


@pytest.mark.parametrize(
    "function",
    ["nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID", "nvmlDeviceGetMigMode"],
)
def test_an_error_at_any_step_of_the_start(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], function: str
) -> None:
    nvml.says("gpu GPU-aaaa 1", f"error {function} 4")
    sampler = start()
    assert log.until_reason() == "no_permission"
    sampler.stop(DEADLINE_S)
    assert not log.pushes
    assert len(log.reasons) == 1
    assert nvml.calls("nvmlShutdown") == 1


def test_no_memory_call_is_supported(nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]) -> None:
    nvml.says("gpu GPU-aaaa 1", "error nvmlDeviceGetMemoryInfo_v2 3", "error nvmlDeviceGetMemoryInfo 3")
    start()
    assert log.until_reason() == "not_supported"


def test_a_gpu_lost_while_running_ends_the_sampling(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], caplog: pytest.LogCaptureFixture
) -> None:
    nvml.says("gpu GPU-aaaa 1", "gpu GPU-bbbb 1", "error nvmlDeviceGetMemoryInfo_v2:GPU-bbbb 15 4")
    log.begin_request()
    with caplog.at_level(logging.INFO, "fastwrap.gpu"):
        sampler = start()
        assert log.until_reason() == "gpu_lost"
        sampler.stop(DEADLINE_S)
    assert len(log.pushes) == 3
    assert nvml.calls("nvmlDeviceGetMemoryInfo_v2:GPU-bbbb") == 4
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"]


@pytest.mark.parametrize("code", [999, 10], ids=["unknown", "timeout"])
def test_a_transient_error_only_leaves_a_gap(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], code: int
) -> None:
    nvml.says("gpu GPU-aaaa 10 20 30 40 50", f"error nvmlDeviceGetMemoryInfo_v2:GPU-aaaa {code} 2 3")
    log.begin_request()
    start()
    assert [used for _, [used] in log.until_pushes(3)] == [10, 20, 30]
    assert nvml.calls("nvmlDeviceGetMemoryInfo_v2:GPU-aaaa") >= 5
    reason = "sampler_stalled" if code == 10 else "unknown_error"
    assert [rows[0][0] for rows in log.until_rounds("memory", 5)] == [10, reason, reason, 20, 30]
    assert not log.reasons


def test_a_transient_error_at_the_start_only_leaves_a_gap(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler]
) -> None:
    nvml.says("gpu GPU-aaaa 10", "error nvmlDeviceGetMemoryInfo_v2 27 1 1")
    start()
    assert log.until_pushes(1)[0][1] == [10]


def test_an_error_that_lasts_is_reported(
    nvml: FakeNvml, log: RecordingLog, start: Callable[[], gpu.GpuSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readings, "_GIVE_UP_NS", 300_000_000)
    nvml.says("gpu GPU-aaaa 1", "error nvmlDeviceGetMemoryInfo_v2 999 11")
    log.begin_request()
    sampler = start()
    assert log.until_reason() == "unknown_error"
    sampler.stop(DEADLINE_S)
    assert len(log.pushes) == 10
    assert (
        nvml.calls("nvmlDeviceGetMemoryInfo_v2") >= 12
    )  # more than one failure: the time counts from the last success


@pytest.mark.usefixtures("nvml")
def test_off_reads_nothing(log: RecordingLog) -> None:
    assert gpu.start_sampler("off", log, gpu.Selection()) is None
    assert log.reasons == ["disabled"]
    assert not any(thread.name == "fastwrap-gpu" for thread in threading.enumerate())


def test_no_more_threads(log: RecordingLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert gpu.start_sampler("auto", log, gpu.Selection()) is None
    assert log.reasons == ["unknown_error"]


@pytest.mark.usefixtures("nvml")
def test_a_foreign_exception_is_translated(
    log: RecordingLog, start: Callable[[], gpu.GpuSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> str:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", fail)
    start()
    assert log.until_reason() == "unknown_error"


@pytest.mark.usefixtures("nvml")
def test_no_binding(log: RecordingLog, start: Callable[[], gpu.GpuSampler], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    start()
    assert log.until_reason() == "library_not_found"


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has an NVML library")
def test_no_library(clean_environment: dict[str, str]) -> None:
    assert child(clean_environment) == {"reason": "library_not_found"}


def test_a_file_that_is_no_library(clean_environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"")
    assert child(clean_environment | {"LD_LIBRARY_PATH": str(tmp_path)}) == {"reason": "library_not_found"}


@pytest.mark.parametrize(("options", "used_bytes"), [((), 1000), (("-DWITHOUT_MEMORY_V2",), 1912)], ids=["v2", "v1"])
def test_a_library_of_the_system(
    clean_environment: dict[str, str],
    build_library: Callable[..., Path],
    tmp_path: Path,
    options: tuple[str, ...],
    used_bytes: int,
) -> None:
    build_library(tmp_path, *options)
    script = tmp_path / "nvml.txt"
    script.write_text("gpu GPU-aaaa 1000\nreserved 912\n")
    said = child(clean_environment | {"LD_LIBRARY_PATH": str(tmp_path), "FAKE_NVML": str(script)})
    rows = [[used_bytes, 912 if used_bytes == 1000 else "not_supported", 1 << 40]]
    assert said == {"uuids": ["GPU-aaaa"], "kind": "memory", "rows": rows}


def test_start_imports_nothing_of_nvml(clean_environment: dict[str, str]) -> None:
    code = "import sys, fastwrap.gpu; sys.exit('pynvml' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=clean_environment, timeout=60, check=True)
