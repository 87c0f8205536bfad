"""What is read of one device, each in the best way that its driver knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Literal, get_args

from fastwrap.gpu.nvml import FATAL, NOT_SUPPORTED, TRANSIENT, GpuError, Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastwrap.gpu.nvml import Device, Nvml

    #: A number, or the reason why there is none.
    Cell = int | Reason

#: What is read together; the words of ``fastwrap._native.GpuLog.push``, where their columns are told.
Kind = Literal["memory", "power", "utilization", "condition"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_GIVE_UP_NS: Final = 30_000_000_000  # errors in an unbroken row for this long are not transient
# Of nvml.h; older bindings do not name them all.
_TEMPERATURE_GPU: Final = 0
_CLOCK_SM: Final = 1
_FI_DEV_POWER_INSTANT: Final = 186
_INSTANT, _AVERAGED = 0, 1


class Source:
    """One reading: the first way that works, until none does.

    Args:
        ways: Each returns the values, always as many.
        lacks: Why there is nothing, if there is no way.
    """

    def __init__(self, *ways: Callable[[], Sequence[Cell]], lacks: Reason = "not_supported") -> None:
        self._ways = list(ways)
        self._lacks: Reason = lacks
        self._failing_ns: int | None = None

    @property
    def lacks(self) -> Reason | None:
        """Why nothing will ever be read here (any more); None if something may be."""
        return None if self._ways else self._lacks

    def read(self, values: int = 1) -> Sequence[Cell]:
        """Return the values, or the reason in place of each.

        Raises:
            GpuError: If the device is lost.
        """
        while self._ways:
            try:
                read = self._ways[0]()
            except GpuError as error:  # noqa: PERF203 (twice at most)
                if error.reason in FATAL:
                    raise
                self._lacks = error.reason
                if error.reason not in TRANSIENT:
                    del self._ways[0]
                elif self._lasts():
                    self._ways.clear()
                else:
                    break
            else:
                self._failing_ns = None
                return read
        return [self._lacks] * values

    def _lasts(self) -> bool:
        now_ns = time.monotonic_ns()
        if self._failing_ns is None:
            self._failing_ns = now_ns
        return now_ns - self._failing_ns > _GIVE_UP_NS


class Readings:
    """Reads one device. What it cannot read is its reason instead, and the others go on."""

    def __init__(self, nvml: Nvml, device: Device) -> None:
        self._nvml = nvml
        self._handle = device.handle
        self._memory = Source(self._memory_v2, self._memory_v1)
        if device.is_instance:  # the whole GPU's say nothing of one of its instances
            self._energy, self._power, self._utilization, self._temperature, self._sm_clock, self._throttle = (
                Source(lacks="mig_unsupported") for _ in range(6)
            )
            return
        self._energy = Source(self._call("DeviceGetTotalEnergyConsumption"))
        self._power = Source(self._instant_power, self._averaged_power)
        self._utilization = Source(self._utilization_rate)
        self._temperature = Source(self._call("DeviceGetTemperature", _TEMPERATURE_GPU))
        self._sm_clock = Source(self._call("DeviceGetClockInfo", _CLOCK_SM))
        self._throttle = Source(
            self._call("DeviceGetCurrentClocksEventReasons"),  # its name before driver 535 is the other one
            self._call("DeviceGetCurrentClocksThrottleReasons"),
        )

    @property
    def lacks(self) -> dict[str, Reason]:
        """What cannot be read at all, and why."""
        lacks = {name: source.lacks for name, source in self._sources.items()}
        return {name: reason for name, reason in lacks.items() if reason is not None}

    @property
    def gives(self) -> list[str]:
        """What can be read, as far as is known."""
        return [name for name, source in self._sources.items() if source.lacks is None]

    def read(self, kind: Kind) -> list[Cell]:
        """Return the readings of a kind.

        Raises:
            GpuError: If the device is lost.
        """
        if kind == "memory":
            return [*self._memory.read(3)]
        if kind == "power":
            return [*self._energy.read(), *self._power.read(2)]
        if kind == "utilization":
            return [*self._utilization.read()]
        return [*self._temperature.read(), *self._sm_clock.read(), *self._throttle.read()]

    @property
    def _sources(self) -> dict[str, Source]:
        return {
            "memory": self._memory,
            "energy": self._energy,
            "power": self._power,
            "utilization": self._utilization,
            "temperature": self._temperature,
            "SM clock": self._sm_clock,
            "throttle reasons": self._throttle,
        }

    def _call(self, name: str, *arguments: int) -> Callable[[], Sequence[Cell]]:
        return lambda: [int(self._nvml.call(name, self._handle, *arguments))]

    def _memory_v2(self) -> Sequence[Cell]:
        memory = self._nvml.call("DeviceGetMemoryInfo", self._handle, self._nvml.memory_v2)
        return [int(memory.used), int(memory.reserved), int(memory.total)]

    def _memory_v1(self) -> Sequence[Cell]:
        """Its ``used`` includes what the driver reserved."""
        memory = self._nvml.call("DeviceGetMemoryInfo", self._handle)
        return [int(memory.used), "not_supported", int(memory.total)]

    def _instant_power(self) -> Sequence[Cell]:
        return [self._nvml.field(self._handle, _FI_DEV_POWER_INSTANT), _INSTANT]

    def _averaged_power(self) -> Sequence[Cell]:
        """An average over a second since Ampere, but for GA100."""
        return [int(self._nvml.call("DeviceGetPowerUsage", self._handle)), _AVERAGED]

    def _utilization_rate(self) -> Sequence[Cell]:
        percent = int(self._nvml.call("DeviceGetUtilizationRates", self._handle).gpu)
        if percent > 100:  # noqa: PLR2004 (drivers of some virtual GPUs say so)
            raise GpuError("not_supported", f"utilization is {percent} %", NOT_SUPPORTED)
        return [percent]
