"""Samples what can be seen of the engine from outside, its gauges and its processes' memory: one worker for all.

A thread, asleep in native code without the GIL, wakes when requests begin and end, and now and then. It reads the
memory itself; the gauges are asked for on the event loop, and nothing waits for their answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from fastwrap import gauges
from fastwrap._native import now_ns
from fastwrap.engine import LOADING
from fastwrap.errors import EngineError
from fastwrap.sampling import SamplingThread

if TYPE_CHECKING:
    from fastwrap._native import Edges, Meter, Samples
    from fastwrap.backends.base import Backend
    from fastwrap.gate import Gate
    from fastwrap.processes import EngineMemory
    from fastwrap.upstream import Reply

_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
#: How often the thread looks what is due: in flight, idle, and where requests begin and end in quick succession.
_BUSY_NS = 250 * _MILLISECOND
_IDLE_NS = 1 * _SECOND
_EDGE_SECONDS = 0.1
#: How long after a request's end an engine's gauges may still tell of it: vLLM's do until the next of its steps.
_LAG_NS = 500 * _MILLISECOND

_GAUGES_BUSY_NS = 500 * _MILLISECOND
_GAUGES_IDLE_NS = 5 * _SECOND
#: At most 1/20 of the time passes in the engine's answers.
_GAUGES_COSTS = 20
#: For an engine that does not answer; and for one that has answered that it has no gauges, or guards them.
_RETRY_NS = 5 * _SECOND
_REFUSED_NS = 60 * _SECOND
_ANSWER_SECONDS = 4.0
_LATER = (http.HTTPStatus.TOO_MANY_REQUESTS, *LOADING)
_GUARDED = (http.HTTPStatus.UNAUTHORIZED, http.HTTPStatus.FORBIDDEN)
#: Longer than any look takes: whoever claimed one and has not released it is dead.
_LEASE_NS = 10 * _SECOND

_MEMORY_BUSY_NS = 100 * _MILLISECOND
#: At most 1/50 of the time passes in reading it; finding the processes has a pace of its own.
_MEMORY_COSTS = 50
_LOOK_COSTS = 100

_logger = logging.getLogger("fastwrap.watch")


class _RefusedError(Exception):
    """Nothing can be read for now, and why: a word for ``Samples.unavailable``."""

    def __init__(self, reason: str, detail: object) -> None:
        super().__init__(f"{reason} ({detail})")
        self.reason = reason


class Asked(Protocol):
    """The engine, as far as its gauges need it: :class:`fastwrap.engine.Engine`, or an application of this process."""

    @property
    def backend(self) -> Backend | None: ...  # noqa: D102
    async def get(self, path: str) -> Reply: ...  # noqa: D102


class _Sampler:
    """Where readings go, and why there are none."""

    #: What it reads, and how old that may be while nobody is served.
    what: ClassVar[str]
    idle_ns: ClassVar[int]

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self._refusal = ""

    def refuse(self, error: Exception) -> None:
        """Say why nothing is read: in the block, and once in the log."""
        foreseen = error if isinstance(error, _RefusedError) else None
        self.samples.unavailable(foreseen.reason if foreseen else "unknown_error")
        if self._refusal != (refusal := str(error)):
            self._refusal = refusal
            level = logging.INFO if foreseen else logging.WARNING
            _logger.log(level, "%s is not read: %s", self.what, refusal, exc_info=None if foreseen else error)


class GaugeSampler(_Sampler):
    """Reads the engine's gauges, for all workers of a server and all requests together."""

    what = "the engine's page of gauges"
    idle_ns = _GAUGES_IDLE_NS

    def __init__(self, samples: Samples, engine: Asked) -> None:
        super().__init__(samples)
        self._engine = engine
        self._seconds = 0.0  # that the last reply took

    async def sample(self) -> None:
        """Read them once; it was claimed."""
        pause_ns = _GAUGES_BUSY_NS
        try:
            backend = self._engine.backend
            if backend is not None:  # it is known what page to ask for
                reply = await asyncio.wait_for(self._ask(backend), _ANSWER_SECONDS)
                asked_ns = now_ns() - int(reply.seconds * _SECOND)
                self.samples.push(asked_ns, _values(reply, backend))
                pause_ns = max(pause_ns, self._pause_ns(reply.seconds))
        except (EngineError, asyncio.TimeoutError) as error:
            pause_ns = _RETRY_NS
            _logger.debug("the engine's gauges could not be read: %s", error)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task: whatever it was, the block must say so
            pause_ns = _REFUSED_NS
            self.refuse(error)
        finally:
            self.samples.release(now_ns() + pause_ns)

    def _pause_ns(self, seconds: float) -> int:
        """What a reply that took so long asks for; a single slow one, as the first is, must not blind the sampler."""
        faster, self._seconds = min(seconds, self._seconds), seconds
        return int(_GAUGES_COSTS * faster * _SECOND)

    async def _ask(self, backend: Backend) -> Reply:
        if not backend.gauges:
            raise _RefusedError("not_offered", f"{backend.name} has none")
        reply = await self._engine.get(backend.metrics_path)
        seen = f"{backend.metrics_path}: {reply.status}"
        if reply.status in _LATER:
            raise EngineError("engine_loading", seen)
        if reply.status in _GUARDED:
            raise _RefusedError("unauthorized", seen)
        if reply.status != http.HTTPStatus.OK:
            raise _RefusedError("not_offered", seen)
        return reply


def _values(reply: Reply, backend: Backend) -> list[int | None]:
    try:
        values = gauges.read(reply.body, backend.gauges)
    except ValueError as error:
        raise _RefusedError("unreadable", error) from error
    if all(value is None for value in values):
        raise _RefusedError("not_offered", f"none of them is on {backend.metrics_path}")
    return values


class MemorySampler(_Sampler):
    """Reads the memory of the engine's processes."""

    what = "the memory of the engine's processes"
    idle_ns = _IDLE_NS

    def __init__(self, samples: Samples, upstream: str, gate: Gate | None) -> None:
        super().__init__(samples)
        self._upstream = upstream
        self._gate = gate
        self._memory: EngineMemory | None = None

    def sample(self) -> None:
        """Read it once; it was claimed."""
        began_ns = now_ns()
        pause_ns = _RETRY_NS
        try:
            pause_ns = self._read()
            self._refusal = ""
        except Exception as error:  # noqa: BLE001 - psutil reads what any system may write, and the thread must go on
            pause_ns = max(_RETRY_NS, _LOOK_COSTS * (now_ns() - began_ns))
            self.refuse(error)
        finally:
            self.samples.release(now_ns() + pause_ns)

    def _read(self) -> int:
        """Return after how long it may be read again."""
        try:
            from fastwrap import processes  # noqa: PLC0415 (psutil takes 50 ms)
        except ImportError as error:  # a system that psutil does not know
            raise _RefusedError("not_supported", error) from error
        if self._memory is None:
            self._memory = processes.EngineMemory(self._upstream, self._gate)
        try:
            self._memory.look()
            began_ns = now_ns()
            self.samples.push(began_ns, self._memory.read())
        except processes.ProcessesError as error:
            raise _RefusedError(error.reason, error) from error
        return max(_MEMORY_BUSY_NS, _MEMORY_COSTS * (now_ns() - began_ns))


class Watch(SamplingThread):
    """The thread that samples, or lets sample, whatever is due."""

    def __init__(self, upstream: str, meter: Meter, engine: Asked, gate: Gate | None) -> None:
        self._edges: Edges = meter.edges()
        super().__init__("fastwrap-watch", self._edges.wake)
        memory = MemorySampler(meter.host_memory, upstream, gate)
        self._samplers = (GaugeSampler(meter.gauges, engine), memory)
        self._loop = asyncio.get_running_loop()
        self._edge_ns = 0
        self._question: asyncio.Task[None] | None = None

    async def close(self) -> None:
        """Stop, and take back the question that the engine has not answered; on the event loop."""
        self.stop()
        if self._question is not None:
            self._question.cancel()
            await asyncio.wait([self._question])

    def run(self) -> None:
        """Look what is due, until :meth:`stop` or the end of the event loop."""
        while not (self.stopping.is_set() or self._loop.is_closed()):
            self._look()
            self._pause()

    def _look(self) -> None:
        for sampler in self._samplers:
            if self._is_due(sampler) and sampler.samples.claim(now_ns() + _LEASE_NS):
                if isinstance(sampler, MemorySampler):
                    sampler.sample()
                else:
                    with contextlib.suppress(RuntimeError):  # the event loop has been closed meanwhile
                        self._loop.call_soon_threadsafe(self._ask, sampler)

    def _ask(self, sampler: GaugeSampler) -> None:
        if not self.stopping.is_set():
            self._question = self._loop.create_task(sampler.sample())

    def _is_due(self, sampler: GaugeSampler | MemorySampler) -> bool:
        """Whether requests are in flight, or the last sample may still tell of one that has ended, or is old."""
        last = sampler.samples.last()
        if last is None or self._edges.in_flight():
            return True
        return last[0] < self._edge_ns + _LAG_NS or now_ns() - last[0] >= sampler.idle_ns

    def _pause(self) -> None:
        """Return when something may be due; edges that are close together give one look."""
        self.stopping.wait(_EDGE_SECONDS)
        # Busy is also one whose sample was due, but too early to be claimed.
        is_busy = any(self._is_due(sampler) for sampler in self._samplers)
        if self._edges.wait(_BUSY_NS if is_busy else _IDLE_NS):
            self._edge_ns = now_ns()


def start_watch(
    mode: Literal["auto", "off"], upstream: str, meter: Meter, engine: Asked, gate: Gate | None = None
) -> Watch | None:
    """Start sampling what can be read ("auto") or nothing ("off"); never raises, never waits."""
    if mode == "off":
        for samples in (meter.gauges, meter.host_memory):
            samples.unavailable("disabled")
        return None
    watch = Watch(upstream, meter, engine, gate)
    try:
        watch.start()
    except RuntimeError as error:  # no more threads
        _logger.warning("the engine is not watched: %s", error)
        return None
    return watch
