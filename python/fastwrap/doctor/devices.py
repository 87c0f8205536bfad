"""The GPUs, and what can be read of them."""

from __future__ import annotations

import os

from fastwrap import gpu
from fastwrap.doctor.check import MEBIBYTE, Check, within

_NVML_SECONDS = 10.0  # for a driver that does not answer


def look_at_gpus() -> list[Check]:
    """Look for NVML, and at each device."""
    try:
        driver, devices = within(_NVML_SECONDS, _devices)
    except TimeoutError as error:
        return [_no_gpu("sampler_stalled", f"NVML: {error}")]
    except gpu.GpuError as error:
        return [_no_gpu(error.reason, str(error))]
    if not devices:
        return [_no_gpu("no_visible_device", "the driver shows no GPU")]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    only = "" if visible is None else f"; CUDA_VISIBLE_DEVICES={visible}"
    return [Check("NVML", "ok", f"driver {driver}, {len(devices)} GPU(s){only}"), *devices]


def _devices() -> tuple[str, list[Check]]:
    nvml = gpu.Nvml()
    try:
        driver = str(nvml.call("SystemGetDriverVersion"))
        return driver, [_device(nvml, index) for index in range(nvml.call("DeviceGetCount"))]
    finally:
        nvml.call("Shutdown")


def _device(nvml: gpu.Nvml, index: int) -> Check:
    try:
        name = nvml.call("DeviceGetName", nvml.call("DeviceGetHandleByIndex", index))
        devices = nvml.devices(index)
        found = "\n".join(_readings(nvml, device) for device in devices)
    except gpu.GpuError as error:
        return _no_gpu(error.reason, str(error), f"GPU {index}")
    in_instances = "" if [device for device in devices if not device.is_instance] else ", in MIG mode"
    return Check(f"GPU {index}", "ok", f"{name}{in_instances}\n{found}")


def _readings(nvml: gpu.Nvml, device: gpu.Device) -> str:
    """What can be read of a device, which is tried."""
    readings = gpu.Readings(nvml, device)
    used, _, total = readings.read("memory")
    averaged = readings.read("power")[2]
    for kind in ("utilization", "condition"):
        readings.read(kind)
    memory = ""
    if isinstance(used, int) and isinstance(total, int):
        memory = f", {round(used / MEBIBYTE):,} of {round(total / MEBIBYTE):,} MiB in use"
    gives = ", ".join(
        "power (average of 1 s)" if name == "power" and averaged == 1 else name for name in readings.gives
    )
    lacks = "".join(f"; no {name}: {reason}" for name, reason in readings.lacks.items())
    return f"{device.uuid}{memory}\nread: {gives or 'nothing'}{lacks}"


_GPU_ADVICE = {
    "library_not_found": "with an NVIDIA GPU: install its driver; in a container: docker run --gpus all",
    "driver_not_loaded": "load the driver (modprobe nvidia), or restart the machine after an update of it",
    "version_mismatch": "the driver was updated under way: restart the machine",
    "no_visible_device": "give the container a device (--gpus all)",
    "no_permission": "give the user, or the container, access to /dev/nvidia*",
    "gpu_lost": "restart the machine: the driver has lost the GPU",
    "sampler_stalled": "look into dmesg: the driver does not answer",
}


def _no_gpu(reason: str, detail: str, name: str = "NVML") -> Check:
    advice = _GPU_ADVICE.get(reason, "see the driver's documentation")
    return Check(name, "warning", f"{reason} ({detail}): memory and energy will be null", advice)
