"""An exchange under ASGI whose request plugins look at before the engine sees it."""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.hooks.calls import Answer, Hooks
    from fastwrap.relays.base import Exchange, Headers, Part

    Job = tuple[Callable[[], Answer | None], asyncio.AbstractEventLoop, asyncio.Future[Answer | None]]

#: Requests that are looked at at the same time, as in the native server; more wait for their turn.
_MAX_THREADS = 64

_logger = logging.getLogger("fastwrap")


class Threads:
    """Threads that may hang: nobody waits for their end, which asyncio and concurrent.futures would."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def run(self, work: Callable[[], Answer | None]) -> asyncio.Future[Answer | None]:
        """Return what comes of the work."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer | None] = loop.create_future()
        self._jobs.put((work, loop, future))
        if not self._idle.acquire(blocking=False) and self._count < _MAX_THREADS:
            self._count += 1
            threading.Thread(target=self._work, name="fastwrap-validate", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            work, loop, future = self._jobs.get()
            if not future.cancelled():
                answer = work()
                try:
                    loop.call_soon_threadsafe(_resolve, future, answer)
                except RuntimeError:  # the loop is closed
                    return
            self._idle.release()


def _resolve(future: asyncio.Future[Any], answer: Answer | None) -> None:
    if not future.done():
        future.set_result(answer)


class Checks:
    """The way of all requests of a worker past the plugins' validation.

    Args:
        hooks: What to ask.
        limit_seconds: For an answer; 0 for any time.
        max_body_bytes: A larger body is refused unseen.
    """

    def __init__(self, hooks: Hooks, limit_seconds: float, max_body_bytes: int) -> None:
        self.max_body_bytes = max_body_bytes
        self._hooks = hooks
        self._limit_seconds = limit_seconds or None
        self._threads = Threads()

    def before(self, exchange: Exchange, method: str, target: bytes, headers: Headers) -> Checked:
        """Return the exchange with the validation before it."""
        return Checked(exchange, self, method, target, headers)

    async def rejection(self, request: tuple[Any, ...]) -> Answer | None:
        """Return the answer in the engine's place, if there is to be one."""
        validation = self._threads.run(lambda: self._hooks.validate(*request))
        try:
            return await asyncio.wait_for(validation, self._limit_seconds)
        except asyncio.TimeoutError:
            return self._hooks.late()


class Checked:
    """See :class:`fastwrap.relays.base.Exchange`: one that waits for the whole body, and for what plugins say of it."""

    def __init__(self, exchange: Exchange, checks: Checks, method: str, target: bytes, headers: Headers) -> None:
        self._exchange = exchange
        self._checks = checks
        self._head = (*exchange.caller(), method, target, headers)
        self._body = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._is_over = False
        self.take = exchange.take
        self.when_ready = exchange.when_ready
        self.caller = exchange.caller
        self.arrived = exchange.arrived
        self.reject = exchange.reject

    def send(self, chunk: bytes, more: bool) -> bool:  # noqa: D102
        if not self.is_uploaded:
            self._body += chunk
            if len(self._body) > self._checks.max_body_bytes:
                self.refuse("body_too_large")
            elif not more:
                self._task = asyncio.get_running_loop().create_task(self._check())
        return True

    @property
    def is_uploaded(self) -> bool:  # noqa: D102
        return self._is_over or self._task is not None

    def when_writable(self, future: asyncio.Future[None]) -> None:  # noqa: D102
        future.set_result(None)

    def refuse(self, fault: str) -> None:  # noqa: D102
        self._end()
        self._exchange.refuse(fault)

    def fail(self) -> Part | None:  # noqa: D102
        self._end()
        return self._exchange.fail()

    def cancel(self) -> None:  # noqa: D102
        self._end()
        self._exchange.cancel()

    def _end(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    async def _check(self) -> None:
        body = bytes(self._body)
        self._exchange.arrived()
        try:
            rejection = await self._checks.rejection((*self._head, body))
            if rejection is None:
                self._exchange.send(body, False)
            else:
                self._exchange.reject(*rejection)
        except Exception:
            _logger.exception("a request could not be validated")
            self._exchange.refuse("internal_error")
