"""NVML: the one place that touches pynvml, which has no types; its exceptions end here."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Reason = Literal["disabled", "no_visible_device", "library_not_found", "driver_not_loaded", "version_mismatch",
                 "not_supported", "no_permission", "gpu_lost", "mig_unsupported",
                 "sampler_stalled", "unknown_error"]  # fmt: skip

INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND, FUNCTION_NOT_FOUND = 2, 3, 6, 13
_CODES: Final[dict[Reason, Sequence[int]]] = {  # of nvmlReturn_t; what is not here is `unknown_error`
    "library_not_found": (12,),
    "driver_not_loaded": (9,),
    "version_mismatch": (FUNCTION_NOT_FOUND, 18, 25),  # 13: library older than its binding; 25: of an argument
    "not_supported": (NOT_SUPPORTED, 22, 26),  # 22: VGPU_ECC_NOT_SUPPORTED; 26: DEPRECATED
    "no_permission": (4, 17),  # 17: OPERATING_SYSTEM blocked it, as a container's device cgroup does
    "gpu_lost": (NOT_FOUND, 15, 16, 28),  # 16: RESET_REQUIRED; 28: GPU_NOT_FOUND
    "sampler_stalled": (10,),  # TIMEOUT: the driver did not answer in its time
}
_REASONS: Final = {code: reason for reason, codes in _CODES.items() for code in codes}
#: A reading that fails like this may succeed the next time.
TRANSIENT: Final[frozenset[Reason]] = frozenset({"sampler_stalled", "unknown_error"})
#: What fails like this fails for every reading.
FATAL: Final[frozenset[Reason]] = frozenset({"gpu_lost", "driver_not_loaded"})
#: Of nvmlValueType_t: where a field's value stands.
_UNSIGNED: Final = {1: "uiVal", 2: "ulVal", 3: "ullVal"}


class GpuError(Exception):
    """An NVML error, translated: never leaves this package, but for the doctor."""

    def __init__(self, reason: Reason, detail: str, code: int = 0) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.code = code


class Device(NamedTuple):
    """A GPU, or an instance of one in MIG mode."""

    uuid: str
    handle: Any
    is_instance: bool = False


def look_for_library() -> None:
    """Look whether there is a driver's library, without initialising it: most machines have none.

    Raises:
        GpuError: If there is none.
    """
    try:
        ctypes.CDLL("libnvidia-ml.so.1")  # as nvidia-ml-py does
    except OSError as error:
        raise GpuError("library_not_found", str(error)) from error


class Nvml:
    """The library, initialised: in a thread of the process that uses it, never before a fork.

    Raises:
        GpuError: If it cannot be.
    """

    def __init__(self) -> None:
        try:
            self._pynvml = importlib.import_module("pynvml")
        except ImportError as error:
            raise GpuError("library_not_found", f"nvidia-ml-py: {error}") from error
        self.call("Init")

    def call(self, name: str, *arguments: Any, missing: Sequence[int] = ()) -> Any:
        """Call nvml<name>; return None where it answers one of the codes in `missing`."""
        function = getattr(self._pynvml, f"nvml{name}", None)
        if function is None:
            raise GpuError("version_mismatch", f"{name}: nvidia-ml-py is too old", FUNCTION_NOT_FOUND)
        try:
            return function(*arguments)
        except self._pynvml.NVMLError as error:
            if error.value in missing:
                return None
            raise _translated(name, error) from error

    @property
    def memory_v2(self) -> int:
        """The version that tells apart what the driver reserved."""
        return int(self._pynvml.nvmlMemory_v2)

    def field(self, handle: Any, field: int) -> int:
        """Return a field's value, an unsigned number."""
        [value] = self.call("DeviceGetFieldValues", handle, [field])
        if value.nvmlReturn:
            raise _translated("DeviceGetFieldValues", self._pynvml.NVMLError(value.nvmlReturn))
        if value.valueType not in _UNSIGNED:
            raise GpuError("not_supported", f"field {field} is of type {value.valueType}", NOT_SUPPORTED)
        return int(getattr(value.value, _UNSIGNED[value.valueType]))

    def count(self) -> int:
        """Return how many GPUs the driver shows."""
        return int(self.call("DeviceGetCount"))

    def uuid(self, index: int) -> str:
        """Return a GPU's UUID, or nothing: a broken neighbour is no reason to fail."""
        with contextlib.suppress(GpuError):
            return str(self.call("DeviceGetUUID", self.call("DeviceGetHandleByIndex", index)))
        return ""

    def gpu(self, index: int) -> Device:
        """Return a whole GPU; one in MIG mode would count the memory of instances that are not ours."""
        handle = self.call("DeviceGetHandleByIndex", index)
        if self._is_divided(handle):
            raise GpuError("mig_unsupported", "a GPU in MIG mode: name its instance in CUDA_VISIBLE_DEVICES")
        return self._device(handle)

    def devices(self, index: int) -> list[Device]:
        """Return a GPU, or its instances if it is in MIG mode: in a container, those that it was given."""
        handle = self.call("DeviceGetHandleByIndex", index)
        if not self._is_divided(handle):
            return [self._device(handle)]
        return [self._device(instance, is_instance=True) for instance in self._instances(handle)]

    def instance(self, uuid: str) -> Device | None:
        """Return the MIG instance of this UUID, if there is one."""
        handle = self.call("DeviceGetHandleByUUID", uuid, missing=(NOT_FOUND, INVALID_ARGUMENT))
        return None if handle is None else self._device(handle, is_instance=True)

    def processes(self, device: Device) -> frozenset[int]:
        """Return the processes that compute on a device. Slow, and it holds the driver's lock: ask seldom."""
        return frozenset(int(process.pid) for process in self.call("DeviceGetComputeRunningProcesses", device.handle))

    def _device(self, handle: Any, *, is_instance: bool = False) -> Device:
        return Device(str(self.call("DeviceGetUUID", handle)), handle, is_instance)

    def _is_divided(self, handle: Any) -> bool:
        mode = self.call("DeviceGetMigMode", handle, missing=(NOT_SUPPORTED, FUNCTION_NOT_FOUND))
        return bool(mode and mode[0])

    def _instances(self, handle: Any) -> Iterator[Any]:
        for index in range(self.call("DeviceGetMaxMigDeviceCount", handle)):
            missing = (NOT_FOUND, INVALID_ARGUMENT)  # the places are not filled from the front
            instance = self.call("DeviceGetMigDeviceHandleByIndex", handle, index, missing=missing)
            if instance is not None:
                yield instance


def _translated(name: str, error: Any) -> GpuError:
    return GpuError(_REASONS.get(error.value, "unknown_error"), f"{name}: {error}", error.value)
