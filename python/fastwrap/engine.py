"""What is known of the engine: which kind it is, and whether it can serve. Asked through httpx, off the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import http
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastwrap import backends
from fastwrap.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastwrap._native import Meter
    from fastwrap.backends.base import Backend
    from fastwrap.settings import Settings
    from fastwrap.upstream import Reply, Upstream

_ASK_SECONDS = 2.0
#: The engine is asked for its health at most this often, however often probes come.
_STATE_SECONDS = 1.0
#: An engine that is still loading is asked again after this; every time twice as long, up to the last.
_RETRY_SECONDS = (0.25, 5.0)
#: What an engine that is loading answers, or what stands before it.
LOADING = (502, 503, 504)

_logger = logging.getLogger("fastwrap.engine")


@dataclass(frozen=True)
class State:
    """Whether the engine can serve.

    Attributes:
        ready: It can.
        backend: Its kind, ``openai`` as long as it was not recognised.
        detail: A word on what it said.
    """

    ready: bool
    backend: str
    detail: str


async def ask_state(backend: Backend, get: Callable[[str], Awaitable[Reply]]) -> State:
    """Ask an engine of this kind whether it can serve; ``get`` may raise an :class:`EngineError`."""
    try:
        reply = await get(backend.health_path)
    except EngineError as error:
        return State(ready=False, backend=backend.name, detail=error.fault)
    # A route that the engine does not have, or guards, is an answer all the same.
    ready = reply.status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    return State(ready=ready, backend=backend.name, detail=f"{backend.health_path}: {reply.status}")


class Engine:
    """Asks the engine, rarely, whoever wants to know.

    Args:
        settings: What was asked for.
        meter: Whom to tell which kind it is.
    """

    def __init__(self, settings: Settings, meter: Meter | None = None) -> None:
        self._settings = settings
        self._meter = meter
        self._upstream: asyncio.Task[Upstream] | None = None
        #: The engine's own key, if it wants one.
        self.key = ""
        self._backend: Backend = backends.backend("openai" if settings.backend == "auto" else settings.backend)
        if meter is not None:
            self._backend.apply(meter)
        self._recognised = settings.backend != "auto"
        self._task: asyncio.Task[None] | None = None
        self._state: asyncio.Task[State] | None = None
        self._state_at = 0.0

    def start(self) -> None:
        """Begin to find out what the engine is, in the background: it may take minutes to load."""
        if not self._recognised:
            self._task = asyncio.get_running_loop().create_task(self._recognise())

    async def stop(self) -> None:
        """Ask no more."""
        for task in (self._task, self._state):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        if self._upstream is not None:
            await (await self._upstream).close()

    @property
    def backend(self) -> Backend | None:
        """The adapter; None as long as the engine was not recognised."""
        return self._backend if self._recognised else None

    async def state(self) -> State:
        """Ask whether the engine can serve; probes that come together share one question."""
        now = time.monotonic()
        if self._state is None or (self._state.done() and now - self._state_at > _STATE_SECONDS):
            self._state_at = now
            self._state = asyncio.get_running_loop().create_task(self.ask_state())
        return await asyncio.shield(self._state)

    async def ask_state(self) -> State:
        """Ask now whether the engine can serve."""
        return await ask_state(self._backend, self.get)

    async def _recognise(self) -> None:
        delay, longest = _RETRY_SECONDS
        while True:
            try:
                self._backend = await backends.recognise(self._ask)
            except EngineError:
                await asyncio.sleep(delay)
                delay = min(2 * delay, longest)
                continue
            if self._meter is not None:
                self._backend.apply(self._meter)
            self._recognised = True
            _logger.info("the engine is %s", self._backend.name)
            return

    async def _ask(self, path: str) -> Reply:
        """Ask what the engine is: nothing is concluded from one that does not answer, or is still loading."""
        reply = await self.get(path)
        if reply.status in LOADING:
            raise EngineError("engine_loading", f"{path}: {reply.status}")
        return reply

    async def get(self, path: str) -> Reply:
        """Ask for a path below the engine's root.

        Raises:
            EngineError: If the engine cannot be asked.
        """
        if self._upstream is None:
            self._upstream = asyncio.get_running_loop().create_task(asyncio.to_thread(self._open))
        upstream = await asyncio.shield(self._upstream)
        return await upstream.get(path, _ASK_SECONDS, self.key)

    def _open(self) -> Upstream:
        from fastwrap.upstream import Upstream  # noqa: PLC0415 (httpx takes 0.1 s: not before the first request)

        return Upstream(self._settings.upstream, connect_timeout=_ASK_SECONDS)
