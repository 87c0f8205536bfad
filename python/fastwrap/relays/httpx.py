"""The reference relay: the same behaviour as the native one, in Python, on httpx. Slow; chosen by ``--relay httpx``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from typing import TYPE_CHECKING

from fastwrap._native import AnswerAborted, Meter
from fastwrap.errors import EngineError
from fastwrap.relays.translated import TranslatingUpstream
from fastwrap.translations import translation
from fastwrap.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastwrap.relays.base import HeaderList, Headers, Part
    from fastwrap.settings import Settings

_logger = logging.getLogger("fastwrap")

#: Bytes of an answer, or of an upload, that may wait before the other side is no longer read.
_MAX_WAITING_BYTES = 64 << 10


class HttpxRelay:
    """See :class:`fastwrap.relays.base.Relay`."""

    def __init__(self, settings: Settings, meter: Meter) -> None:
        self.settings = settings
        self.meter = meter
        self.upstream = _open_upstream(settings)

    def open(self, method: str, target: bytes, headers: Headers, version: str) -> HttpxExchange:
        """Begin a request. A refused one answers at once."""
        return HttpxExchange(self, method, target, list(headers), version)

    def close(self) -> None:
        """Close the connections."""
        self._closing = asyncio.get_running_loop().create_task(self.upstream.close())


def _open_upstream(settings: Settings) -> Upstream:
    timeouts = {name: seconds for name, seconds in settings.timeouts.items() if name != "total_timeout"}
    if not settings.translate_chat:
        return Upstream(settings.upstream, **timeouts)
    return TranslatingUpstream(translation(settings.translate_chat), settings.upstream, **timeouts)


class HttpxExchange:
    """See :class:`fastwrap._native.Exchange`."""

    def __init__(self, relay: HttpxRelay, method: str, target: bytes, headers: HeaderList, version: str) -> None:
        self._relay = relay
        self._method = method
        self._target = target
        self._length = [(name, value) for name, value in headers if name == b"content-length"]
        self._announced = {int(value) for _, value in self._length if value.isdigit()}
        self._measured = relay.meter.begin(method, target, headers, version)
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        # The answer: what has arrived and has not been taken.
        self._head: tuple[int, HeaderList] | None = None
        self._headed = False
        self._taken = False
        self._out = bytearray()
        self._read_ns = 0
        self._ended = False
        self._aborted = False
        self._reader: asyncio.Future[None] | None = None
        self._drained = asyncio.Event()
        # The upload: what was given and has not been sent.
        self._received_bytes = 0
        self._body = bytearray()
        self._body_ended = False
        self._writer: asyncio.Future[None] | None = None
        self._given = asyncio.Event()
        answer = self._measured.answer()
        if answer is not None:
            self._answer(*answer)

    def send(self, chunk: bytes, more: bool) -> bool:
        """Give bytes of the body; return whether more may be given at once."""
        if self._ended or self._aborted or self._body_ended:
            return True
        self._received_bytes += len(chunk)
        more = more and self._received_bytes not in self._announced
        if self._received_bytes > self._relay.settings.max_body_bytes:
            self.refuse("body_too_large")
            return True
        self._body += chunk
        self._body_ended = not more
        self._given.set()
        if self._task is None and not more:
            self._start(self._measured.body(bytes(self._body)))
        elif self._task is None and not self._measured.is_measured:
            self._start(self._upload())
        return self._measured.is_measured or self._has_room()

    def refuse(self, fault: str) -> None:
        """End the request: its body is not what it may be."""
        self._stop()
        self._break(fault)

    def caller(self) -> tuple[str, str | None]:
        """Return the request's id, and what names its client's key."""
        return self._measured.caller()

    def arrived(self) -> None:
        """Note that all of the request is there, and that hooks look at it."""
        self._measured.arrived()

    def reject(self, status: int, headers: HeaderList, body: bytes, code: str) -> None:
        """End the request with a hook's answer."""
        self._answer(*self._measured.reject(status, headers, body, code))
        self._notify()

    @property
    def is_uploaded(self) -> bool:
        """Whether the body is whole."""
        return self._body_ended

    def when_writable(self, future: asyncio.Future[None]) -> None:
        """Resolve ``future`` when more of the body may be given."""
        self._writer = future
        self._notify()

    def take(self) -> Part | None:
        """Take all that has arrived.

        Raises:
            AnswerAborted: If the answer broke off.
        """
        if not self._has_part():
            return None
        if self._aborted and self._head is None and not self._out:
            raise AnswerAborted
        part = self._head, bytes(self._out), not self._ended
        self._taken = True
        if self._out and self._read_ns and not (self._ended or self._aborted):
            self._measured.handed_over(self._read_ns)
        self._head = None
        self._out.clear()
        self._drained.set()
        return part

    def when_ready(self, future: asyncio.Future[None]) -> None:
        """Resolve ``future`` when :meth:`take` has something."""
        self._reader = future
        self._notify()

    def fail(self) -> Part | None:
        """End by a fault of fastwrap's own; return what the client gets, unless it got a head already."""
        self._relay.meter.internal_error()
        self._stop()
        if self._taken:
            self._break("internal_error")
            return None
        self._headed = False
        self._break("internal_error")
        return self.take()

    def cancel(self) -> None:
        """Drop the request: the engine sees its connection closed."""
        self._stop()
        self._measured.cancel()
        self._aborted = not self._ended
        self._notify()

    def _stop(self) -> None:
        """Cancel the task, but once: a second time would break off the closing of its connection."""
        if self._task is not None and not self._stopped:
            self._stopped = True
            self._task.cancel()

    def _has_part(self) -> bool:
        return self._head is not None or bool(self._out) or self._ended or self._aborted

    def _has_room(self) -> bool:
        return len(self._body) < _MAX_WAITING_BYTES or self._ended or self._aborted

    def _notify(self) -> None:
        """Wake whoever waits for what is there now."""
        if self._reader is not None and self._has_part():
            _resolve(self._reader)
            self._reader = None
        if self._writer is not None and self._has_room():
            _resolve(self._writer)
            self._writer = None

    async def _upload(self) -> AsyncIterator[bytes]:
        while self._body or not self._body_ended:
            if self._body:
                chunk = bytes(self._body)
                self._body.clear()
                self._notify()
                yield chunk
            else:
                self._given.clear()
                await self._given.wait()
        self._measured.received()

    def _start(self, body: bytes | AsyncIterator[bytes]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(body))

    async def _run(self, body: bytes | AsyncIterator[bytes]) -> None:
        try:
            await asyncio.wait_for(self._exchange(body), self._relay.settings.total_timeout or None)
        except EngineError as error:
            self._break(error.fault)
        except asyncio.TimeoutError:
            self._break("total_timeout")
        except Exception as error:  # noqa: BLE001 (nobody awaits this task, and a translation may be anybody's)
            place = traceback.extract_tb(error.__traceback__)[-1]
            # Not its text, which may quote what was being read.
            _logger.error("a request failed: %s in %s:%s", type(error).__name__, place.filename, place.lineno)  # noqa: TRY400
            self._relay.meter.internal_error()
            self._break("internal_error")

    async def _exchange(self, body: bytes | AsyncIterator[bytes]) -> None:
        upstream = self._relay.upstream
        headers = self._measured.request_headers(upstream.host)
        if not isinstance(body, bytes):
            headers += self._length
        answer = await upstream.send(self._method, self._target, headers, body)
        try:
            if not self._measured.response(answer.status, answer.headers, answer.sent_ns):
                self._begin()
            async for read_ns, chunk in answer.chunks():
                await self._put(self._measured.data(chunk, read_ns), read_ns)
                if not self._headed and not self._measured.is_collecting:
                    self._begin()
            self._out += self._measured.finish()
            if not self._headed:
                self._begin()
            self._ended = True
            self._notify()
        finally:
            await answer.close()

    def _begin(self) -> None:
        self._head = self._measured.response_status, self._measured.response_headers()
        self._headed = True
        self._notify()

    async def _put(self, chunk: bytes, read_ns: int) -> None:
        if not self._out:
            self._read_ns = read_ns
        self._out += chunk
        if self._headed:
            self._notify()
        while self._headed and len(self._out) >= _MAX_WAITING_BYTES:
            self._drained.clear()
            await self._drained.wait()

    def _answer(self, status: int, headers: HeaderList, body: bytes) -> None:
        """End with a whole answer of fastwrap's own."""
        self._head, self._headed, self._out = (status, headers), True, bytearray(body)
        self._ended = True

    def _break(self, fault: str) -> None:
        """End with an answer of fastwrap's own, with an error event, or by aborting."""
        if not self._headed:
            self._answer(*self._measured.refuse(fault))
        else:
            last, self._aborted = self._measured.fail(fault)
            self._out += last
            self._ended = not self._aborted
        self._notify()


def _resolve(future: asyncio.Future[None]) -> None:
    with contextlib.suppress(asyncio.InvalidStateError):  # cancelled meanwhile
        future.set_result(None)
