"""Which devices are sampled."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastwrap.gpu.nvml import Device, GpuError, Nvml

if TYPE_CHECKING:
    from collections.abc import Callable

#: The engine's processes are looked for after this, then each time after twice as long, up to the last.
_LOOK_NS: Final = (1_000_000_000, 30_000_000_000)
_ALL: Final = "all"

_logger = logging.getLogger("fastwrap.gpu")


@dataclass(frozen=True)
class Selection:
    """What was asked for: processes with the same one sample the same devices.

    Attributes:
        devices: A list as in ``CUDA_VISIBLE_DEVICES``, or ``all``; empty for the devices that the engine's processes
            compute on or, as long as there are none, those of ``visible``.
        upstream: The engine's address; empty where it is this process.
        visible: ``CUDA_VISIBLE_DEVICES``; None for all.
    """

    devices: str = ""
    upstream: str = ""
    visible: str | None = field(default_factory=lambda: os.environ.get("CUDA_VISIBLE_DEVICES"))

    @property
    def key(self) -> str | None:
        """A text that is the same for the same selection; None where no other process can have the same."""
        if self.devices:
            return repr(("devices", self.devices))
        return repr(("engine", self.upstream, self.visible)) if self.upstream else None


class Choice:
    """Finds the devices of a selection, now and again.

    Args:
        nvml: The library.
        selection: What was asked for.
        processes: Returns the process ids of the engine, if they can be known here.
    """

    def __init__(self, nvml: Nvml, selection: Selection, processes: Callable[[], frozenset[int]]) -> None:
        self._nvml = nvml
        self._selection = selection
        self._processes = processes
        self._engine: frozenset[int] = frozenset()
        self._delay_ns, self._longest_ns = _LOOK_NS
        self._look_ns = time.monotonic_ns() + self._delay_ns
        self._told = False

    def devices(self) -> list[Device]:
        """Return the devices; none if the driver shows none of those that were asked for."""
        wanted = self._selection.devices
        if wanted:
            return every_device(self._nvml) if wanted.strip() == _ALL else self._listed(wanted)
        return self._engines() or self._visible()

    def changed(self) -> list[Device]:
        """Return the devices of an engine that was found now, else nothing; to be asked at any time."""
        now_ns = time.monotonic_ns()
        if self._selection.devices or now_ns < self._look_ns:
            return []
        self._delay_ns = min(2 * self._delay_ns, self._longest_ns)
        self._look_ns = now_ns + self._delay_ns
        return [] if any(map(_is_alive, self._engine)) else self._engines()

    def _listed(self, wanted: str) -> list[Device]:
        devices = visible_devices(self._nvml, wanted)
        if len(devices) < len(wanted.split(",")):
            _logger.warning("of --gpu-devices %s there are: %s", wanted, [device.uuid for device in devices])
        return devices

    def _visible(self) -> list[Device]:
        visible = self._selection.visible
        return every_device(self._nvml) if visible is None else visible_devices(self._nvml, visible)

    def _engines(self) -> list[Device]:
        try:
            processes = self._processes()
        except Exception:  # whatever it was: there are other ways to choose
            _logger.debug("the engine's processes cannot be found", exc_info=True)
            return []
        devices = devices_of(self._nvml, processes) if processes else []
        if devices:
            self._engine = processes
        elif processes and not self._told:
            self._told = True
            _logger.info("the engine's processes are on no GPU that NVML shows (in a container it tells the host's "
                         "process ids): CUDA_VISIBLE_DEVICES decides, or --gpu-devices")  # fmt: skip
        return devices


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def every_device(nvml: Nvml) -> list[Device]:
    """Return all GPUs, and of those in MIG mode the instances."""
    devices = [device for index in range(nvml.count()) for device in nvml.devices(index)]
    if not devices and nvml.count():
        raise GpuError("mig_unsupported", "all GPUs are in MIG mode, and no instance is shown")
    return devices


def devices_of(nvml: Nvml, processes: frozenset[int]) -> list[Device]:
    """Return the devices that any of these processes computes on."""
    found = []
    for index in range(nvml.count()):
        with contextlib.suppress(GpuError):  # a broken neighbour is no reason to fail
            found += [device for device in nvml.devices(index) if nvml.processes(device) & processes]
    return found


def visible_devices(nvml: Nvml, visible: str) -> list[Device]:
    """Return the devices that CUDA shows under this CUDA_VISIBLE_DEVICES, in its order.

    It holds indices, GPU UUIDs or unique prefixes of them, or MIG UUIDs, of one form. The list ends at the first
    invalid entry; a repeated device makes all of it invalid. Indices are taken in PCI-bus order, which is NVML's, and
    CUDA's under CUDA_DEVICE_ORDER=PCI_BUS_ID. CUDA's default, "fastest first", NVML cannot tell: where GPUs of several
    models are mixed, name them by UUID.
    """
    form = prefix if (prefix := visible.strip()[:4]) in ("GPU-", "MIG-") else ""
    devices: list[Device] = []
    for entry in map(str.strip, visible.split(",")):
        device = _find(nvml, entry, form) if entry.startswith(form) else None
        if device is None:
            break
        devices.append(device)
    return devices if len({device.uuid for device in devices}) == len(devices) else []


def _find(nvml: Nvml, entry: str, form: str) -> Device | None:
    if form == "MIG-":
        return nvml.instance(entry)
    count = nvml.count()
    if form == "GPU-":
        matches = [index for index in range(count) if nvml.uuid(index).lower().startswith(entry.lower())]
    else:  # like CUDA's strtoul: what follows the digits is ignored
        matches = [int(digits) for digits in re.findall(r"^\+?[0-9]+", entry) if int(digits) < count]
    return nvml.gpu(matches[0]) if len(matches) == 1 else None
