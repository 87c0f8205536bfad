"""The sampler's thread: it samples, or follows the one that does, until stopped."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final, Literal

from fastwrap.gpu.devices import Choice
from fastwrap.gpu.election import Election
from fastwrap.gpu.nvml import GpuError, Nvml, Reason, look_for_library
from fastwrap.gpu.readings import KINDS, Kind, Readings
from fastwrap.sampling import SamplingThread

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.gpu.devices import Selection
    from fastwrap.gpu.log import GpuLog
    from fastwrap.gpu.nvml import Device

Mode = Literal["auto", "off"]
_INTERVAL_NS: Final[dict[Kind, int]] = {
    "memory": 50_000_000,
    "power": 100_000_000,
    "utilization": 500_000_000,
    "condition": 1_000_000_000,
}
_IDLE_NS: Final = 1_000_000_000  # also the longest single wait
_EDGE_NS: Final = 5_000_000
_FOLLOW_NS: Final = 500_000_000  # a sampler that died is replaced in this time, and the start of the library
_BUSY_COSTS: Final = 200  # at most 1/200 of the time passes in the calls of a kind, and
_EDGE_COSTS: Final = 20  # 1/20 where requests begin and end in quick succession

_logger = logging.getLogger("fastwrap.gpu")


class Pace:
    """When one kind of reading is due, so that it never takes more than its share of the time."""

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._cost_ns = 0  # moving average of a round, waiting for driver and GIL included
        self._end_ns = 0
        self.is_wanted = True  # at once, but for a pause that closely following wishes share

    def learn(self, begin_ns: int, end_ns: int) -> None:
        """Take in a round. One counts as 8 times the average at most: an outlier would blind the sampler."""
        cost_ns = min(end_ns - begin_ns, 8 * max(self._cost_ns, self._interval_ns // _BUSY_COSTS))
        self._cost_ns = (3 * self._cost_ns + cost_ns) // 4
        self._end_ns = end_ns
        self.is_wanted = False

    def due_ns(self, *, is_busy: bool) -> int:
        """Return when the next round is due."""
        if self.is_wanted:
            return self._end_ns + max(_EDGE_NS, _EDGE_COSTS * self._cost_ns)
        interval_ns = self._interval_ns if is_busy else max(self._interval_ns, _IDLE_NS)
        return self._end_ns + max(interval_ns, _BUSY_COSTS * self._cost_ns)


class GpuSampler(SamplingThread):
    """Samples a selection's devices for all processes of the node that want it, or follows the process that does.

    Args:
        log: Where readings go.
        selection: Which devices.
        processes: Returns the engine's process ids, for a selection that leaves the choice to them.
    """

    def __init__(self, log: GpuLog, selection: Selection, processes: Callable[[], frozenset[int]] = frozenset) -> None:
        super().__init__("fastwrap-gpu", log.wake)
        self._log = log
        self._selection = selection
        self._processes = processes
        self._election: Election | None = None
        self._paces = {kind: Pace(interval_ns) for kind, interval_ns in _INTERVAL_NS.items()}

    def stop(self, timeout_s: float = 2.0) -> None:
        """End it; one that hangs in the library is left behind after `timeout_s`, in office."""
        super().stop(timeout_s)
        if self._election is not None and not self.is_alive():
            self._election.resign()

    def run(self) -> None:
        """Sample, or follow the one that does; whatever goes wrong stands in the log."""
        try:
            look_for_library()  # where there is none, nothing is shared, and nobody elected
            self._election = self._share()
            if self._follow(self._election):
                self._lead()
        except Exception as error:  # noqa: BLE001 - the thread's edge: whatever it was, the log must know
            self.fail(error)

    def _share(self) -> Election:
        election = Election(self._selection.key)
        try:
            self._log.share(election.board)
        except OSError as error:  # there is no room
            _logger.warning("readings are not shared in %s: %s", election.board, error)
            election = Election(None)
            self._log.share()
        return election

    def _follow(self, election: Election) -> bool:
        """Read what another process samples, until it dies (True); until it has given up, or stop()."""
        failed = 0
        while not self.stopping.is_set():
            if election.won():
                return True
            # What another one failed of, this one would fail of, too; twice, for it may have begun just now.
            failed = failed + 1 if self._log.catch_up() else 0
            if failed > 1:
                break
            self.stopping.wait(_FOLLOW_NS / 1e9)
        return False

    def _lead(self) -> None:
        """Sample. Whoever fails stays in office: the others need not try."""
        self._log.begin()
        try:
            self._sample()
        except Exception as error:  # noqa: BLE001 - it may come from the driver, by way of ctypes
            self._log.failed(_reason(error))
            _tell(error)

    def fail(self, error: Exception) -> None:
        """Say in the log why nothing is sampled in this process."""
        self._log.unavailable(_reason(error))
        _tell(error)

    def _sample(self) -> None:
        nvml = Nvml()
        try:
            choice = Choice(nvml, self._selection, self._processes)
            devices = choice.devices()
            if not devices:
                raise GpuError("no_visible_device", "--gpu-devices, CUDA_VISIBLE_DEVICES or the driver shows no GPU")
            while devices:
                devices = self._loop(choice, devices, [Readings(nvml, device) for device in devices])
        finally:
            with contextlib.suppress(GpuError):
                nvml.call("Shutdown")

    def _loop(self, choice: Choice, devices: list[Device], readings: list[Readings]) -> list[Device]:
        """Sample these devices until stop(), or until others are chosen, which it returns."""
        self._log.devices([device.uuid for device in devices])
        for kind in KINDS:  # the first round also wakes a sleeping driver, and shows what it knows
            self._round(kind, readings)
        _logger.info("sampled are: %s", [(device.uuid, reading.lacks or "everything")
                                         for device, reading in zip(devices, readings, strict=True)])  # fmt: skip
        while not self.stopping.is_set():
            if all(not reading.gives for reading in readings):
                raise GpuError(readings[0].lacks["memory"], "none of the readings is supported")
            for kind in self._pause():
                self._round(kind, readings)
            changed = choice.changed()
            if changed and [device.uuid for device in changed] != [device.uuid for device in devices]:
                return changed
        return []

    def _round(self, kind: Kind, readings: list[Readings]) -> None:
        """Push one row a device; raise if one is lost."""
        begin_ns = time.monotonic_ns()
        if kind == "condition":
            self._log.forget_dead()
        self._log.push(kind, begin_ns, [reading.read(kind) for reading in readings])
        self._paces[kind].learn(begin_ns, time.monotonic_ns())

    def _pause(self) -> list[Kind]:
        """Return what is due, when it is: at edges memory (close ones give one round), at the intervals, or stop()."""
        memory, power = self._paces["memory"], self._paces["power"]
        while not self.stopping.is_set():
            is_busy = self._log.in_flight() > 0
            # Energy that was used while nobody was served must not be taken for the next request's.
            power.is_wanted = is_busy == self._log.was_idle()
            due_ns = {kind: pace.due_ns(is_busy=is_busy) for kind, pace in self._paces.items()}
            now_ns = time.monotonic_ns()
            due: list[Kind] = [kind for kind in KINDS if due_ns[kind] <= now_ns]
            if due:
                return due
            left_ns = min(min(due_ns.values()) - now_ns, _IDLE_NS)
            if memory.is_wanted:
                self.stopping.wait(left_ns / 1e9)  # not in log.wait(): that wakes for every request
            else:
                memory.is_wanted = self._log.wait(left_ns)
        return []


def _reason(error: Exception) -> Reason:
    return error.reason if isinstance(error, GpuError) else "unknown_error"


def _tell(error: Exception) -> None:
    reason = _reason(error)
    usual = reason in ("library_not_found", "no_visible_device")  # a machine without a GPU
    _logger.log(logging.INFO if usual else logging.WARNING, "no GPU is sampled: %s (%s)", reason, error)


def start_sampler(
    mode: Mode, log: GpuLog, selection: Selection, processes: Callable[[], frozenset[int]] = frozenset
) -> GpuSampler | None:
    """Start sampling what can be read ("auto") or nothing ("off"); never raises, never waits for the driver."""
    if mode == "off":
        log.unavailable("disabled")
        return None
    sampler = GpuSampler(log, selection, processes)
    try:
        sampler.start()
    except RuntimeError as error:  # no more threads
        sampler.fail(error)
        return None
    return sampler
