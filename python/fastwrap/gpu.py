"""Background sampling of device memory through NVML, into a log that the relay reads: no answer waits for Python.

NVML is loaded and initialised inside a daemon thread of each worker: never before a fork, never in the caller's way.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import logging
import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

Mode = Literal["auto", "off"]
Reason = Literal["disabled", "no_visible_device", "library_not_found", "driver_not_loaded", "version_mismatch",
                 "not_supported", "no_permission", "gpu_lost", "mig_unsupported",
                 "sampler_stalled", "unknown_error"]  # fmt: skip
_BUSY_NS: Final = 50_000_000
_IDLE_NS: Final = 1_000_000_000  # also the longest single wait, hence the longest that stop() waits for the thread
_EDGE_NS: Final = 5_000_000
_GIVE_UP_NS: Final = 30_000_000_000  # errors in an unbroken row for this long are not transient
_BUSY_COSTS: Final = 200  # at most 1/200 of the time passes in NVML's calls, and
_EDGE_COSTS: Final = 20  # 1/20 where requests begin and end in quick succession
_INVALID_ARGUMENT, _NOT_SUPPORTED, _NOT_FOUND, _FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH = 2, 3, 6, 13, 25
_CODES: Final[dict[Reason, Sequence[int]]] = {  # of nvmlReturn_t; what is not here is `unknown_error`
    "library_not_found": (12,),
    "driver_not_loaded": (9,),
    "version_mismatch": (_FUNCTION_NOT_FOUND, 18, _ARGUMENT_VERSION_MISMATCH),  # 13: library older than its binding
    "not_supported": (_NOT_SUPPORTED, 22, 26),  # 22: VGPU_ECC_NOT_SUPPORTED; 26: DEPRECATED
    "no_permission": (4, 17),  # 17: OPERATING_SYSTEM blocked it, as a container's device cgroup does
    "gpu_lost": (_NOT_FOUND, 15, 16, 28),  # 16: RESET_REQUIRED; 28: GPU_NOT_FOUND
    "sampler_stalled": (10,),  # TIMEOUT: the driver did not answer in its time
}
_REASONS: Final = {code: reason for reason, codes in _CODES.items() for code in codes}
_TRANSIENT: Final[frozenset[Reason]] = frozenset({"sampler_stalled", "unknown_error"})

_logger = logging.getLogger("fastwrap.gpu")


class MemoryLog(Protocol):
    """Where samples go: fastwrap._native.MemoryLog."""

    def devices(self, uuids: Sequence[str]) -> None:
        """Name what will be sampled; once, before the first push."""

    def push(self, at_ns: int, used_bytes: Sequence[int]) -> None:
        """Add a sample: ``time.monotonic_ns()`` and one value a device."""

    def unavailable(self, reason: str) -> None:
        """Say that nothing can be read (any more): one of ``Reason``."""

    def wait(self, timeout_ns: int) -> bool:
        """Block, without the GIL, until a request begins or ends (True; at once if one did since) or the timeout."""

    def in_flight(self) -> bool:
        """Return whether a request is being served."""


class GpuError(Exception):
    """An NVML error, translated: never leaves this module."""

    def __init__(self, reason: Reason, detail: str, code: int = 0) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.code = code


class _Device(NamedTuple):
    uuid: str
    handle: Any
    version: int  # of the memory call; 0 is v1, whose `used` includes what the driver reserved


class Nvml:
    """The one place that touches pynvml, which has no types: its exceptions become `GpuError`."""

    def __init__(self) -> None:
        try:
            self._pynvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise GpuError("library_not_found", f"nvidia-ml-py: {error}") from error
        self.call("Init")

    def call(self, name: str, *arguments: Any, missing: Sequence[int] = ()) -> Any:
        """Call nvml<name>; return None where it answers one of the codes in `missing`."""
        try:
            return getattr(self._pynvml, f"nvml{name}")(*arguments)
        except self._pynvml.NVMLError as error:
            if error.value in missing:
                return None
            raise GpuError(_REASONS.get(error.value, "unknown_error"), f"{name}: {error}", error.value) from error

    def used_bytes(self, handle: Any, version: int) -> int:
        """Return the memory in use."""
        return int(self.call("DeviceGetMemoryInfo", handle, version).used)

    def uuid(self, index: int) -> str:
        """Return a GPU's UUID, or nothing: a broken neighbour is no reason to fail."""
        with contextlib.suppress(GpuError):
            return str(self.call("DeviceGetUUID", self.call("DeviceGetHandleByIndex", index)))
        return ""

    def gpu(self, index: int) -> _Device:
        """Return a whole GPU; one in MIG mode would count the memory of instances that are not ours."""
        handle = self.call("DeviceGetHandleByIndex", index)
        mode = self.call("DeviceGetMigMode", handle, missing=(_NOT_SUPPORTED, _FUNCTION_NOT_FOUND))
        if mode and mode[0]:
            raise GpuError("mig_unsupported", "a GPU in MIG mode: name its instance in CUDA_VISIBLE_DEVICES")
        return self.device(handle)

    def device(self, handle: Any) -> _Device:
        """Return what has to be known of a device to sample it."""
        return _Device(self.call("DeviceGetUUID", handle), handle, self._memory_version(handle))

    def _memory_version(self, handle: Any) -> int:
        """Ask once, which also wakes a sleeping driver, so that the first sample costs what the others do."""
        version = int(self._pynvml.nvmlMemory_v2)
        try:
            self.used_bytes(handle, version)
        except GpuError as error:
            if error.code in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _ARGUMENT_VERSION_MISMATCH):
                self.used_bytes(handle, version := 0)
            elif error.reason not in _TRANSIENT:
                raise
        return version


def _visible_devices(nvml: Nvml, visible: str | None) -> list[_Device]:
    """Return the devices that CUDA shows under this CUDA_VISIBLE_DEVICES, in its order.

    None is all; otherwise indices, GPU UUIDs or unique prefixes of them, or MIG UUIDs, of one form. The list ends at
    the first invalid entry; a repeated device makes all of it invalid. Indices are taken in PCI-bus order, which is
    NVML's: CUDA's under CUDA_DEVICE_ORDER=PCI_BUS_ID. Its default, "fastest first", NVML cannot tell: where GPUs of
    several models are mixed, name them by UUID.
    """
    if visible is None:
        return [nvml.gpu(index) for index in range(nvml.call("DeviceGetCount"))]
    form = prefix if (prefix := visible.strip()[:4]) in ("GPU-", "MIG-") else ""
    devices: list[_Device] = []
    for entry in map(str.strip, visible.split(",")):
        device = _find(nvml, entry, form) if entry.startswith(form) else None
        if device is None:
            break
        devices.append(device)
    return devices if len({device.uuid for device in devices}) == len(devices) else []


def _find(nvml: Nvml, entry: str, form: str) -> _Device | None:
    if form == "MIG-":
        instance = nvml.call("DeviceGetHandleByUUID", entry, missing=(_NOT_FOUND, _INVALID_ARGUMENT))
        return None if instance is None else nvml.device(instance)
    count = int(nvml.call("DeviceGetCount"))
    if form == "GPU-":
        matches = [index for index in range(count) if nvml.uuid(index).lower().startswith(entry.lower())]
    else:  # like CUDA's strtoul: what follows the digits is ignored
        matches = [int(digits) for digits in re.findall(r"^\+?[0-9]+", entry) if int(digits) < count]
    return nvml.gpu(matches[0]) if len(matches) == 1 else None


class GpuSampler:
    """Samples the memory of the visible devices into a log until stopped, or until nothing can be read any more."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self._cost_ns = 0  # moving average of a round, waiting for driver and GIL included
        self._stopping = threading.Event()
        self._read_ns = 0  # when a round last succeeded
        self._thread = threading.Thread(target=self._run, name="fastwrap-gpu", daemon=True)

    def start(self) -> None:
        """Start the thread and return at once; call it in the worker, after any fork."""
        self._thread.start()
        atexit.register(self.stop)  # a daemon thread that the interpreter ends in native code can abort the process

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread, mostly within a second; one that hangs in the library is left behind after `timeout_s`."""
        atexit.unregister(self.stop)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 - the thread's edge: whatever it was, the log must know
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Say in the log why nothing is sampled."""
        reason = error.reason if isinstance(error, GpuError) else "unknown_error"
        self._log.unavailable(reason)
        usual = reason in ("library_not_found", "no_visible_device")  # a machine without a GPU
        _logger.log(logging.INFO if usual else logging.WARNING, "GPU memory is not sampled: %s (%s)", reason, error)

    def _sample(self) -> None:
        nvml = Nvml()
        try:
            devices = _visible_devices(nvml, os.environ.get("CUDA_VISIBLE_DEVICES"))
            if not devices:
                raise GpuError("no_visible_device", "CUDA_VISIBLE_DEVICES or the driver shows no GPU")
            self._log.devices([device.uuid for device in devices])
            _logger.info("GPU memory is sampled: %s", [(d.uuid, "v2" if d.version else "v1") for d in devices])
            self._loop(nvml, devices)
        finally:
            with contextlib.suppress(GpuError):
                nvml.call("Shutdown")

    def _loop(self, nvml: Nvml, devices: Sequence[_Device]) -> None:
        self._read_ns = time.monotonic_ns()
        while not self._stopping.is_set():
            self._round(nvml, devices, begin_ns := time.monotonic_ns())
            self._learn((end_ns := time.monotonic_ns()) - begin_ns)
            self._pause(end_ns)

    def _round(self, nvml: Nvml, devices: Sequence[_Device], begin_ns: int) -> None:
        """Push one value per device, or nothing at a transient error; raise if errors have lasted too long."""
        try:
            used_bytes = [nvml.used_bytes(device.handle, device.version) for device in devices]
            self._log.push(begin_ns, used_bytes)
            self._read_ns = begin_ns
        except GpuError as error:
            if error.reason not in _TRANSIENT or begin_ns - self._read_ns > _GIVE_UP_NS:
                raise

    def _learn(self, cost_ns: int) -> None:
        """Take in a round's cost. One counts as 8 times the average at most: an outlier would blind the sampler."""
        self._cost_ns = (3 * self._cost_ns + min(cost_ns, 8 * max(self._cost_ns, _BUSY_NS // _BUSY_COSTS))) // 4

    def _gap_ns(self, shortest_ns: int, costs: int = _BUSY_COSTS) -> int:
        return max(shortest_ns, costs * self._cost_ns)

    def _pause(self, since_ns: int) -> None:
        """Return when the next round is due: an edge (close ones give one round), the interval, or stop()."""
        while not self._stopping.is_set():
            due_ns = since_ns + self._gap_ns(_BUSY_NS if self._log.in_flight() else _IDLE_NS)
            if (left_ns := due_ns - time.monotonic_ns()) <= 0:
                return
            if self._log.wait(min(left_ns, _IDLE_NS)):
                early_ns = since_ns + self._gap_ns(_EDGE_NS, _EDGE_COSTS) - time.monotonic_ns()
                self._stopping.wait(max(early_ns, 0) / 1e9)  # not in log.wait(): that wakes for every request
                return


def start_sampler(mode: Mode, log: MemoryLog) -> GpuSampler | None:
    """Start sampling what can be read ("auto") or nothing ("off"); never raises, never waits for the driver."""
    if mode == "off":
        log.unavailable("disabled")
        return None
    sampler = GpuSampler(log)
    try:
        sampler.start()
    except RuntimeError as error:  # no more threads
        sampler.fail(error)
        return None
    return sampler
