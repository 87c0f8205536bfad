"""One measured request on its way into an application of this process, and the answer on its way out of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from fastwrap._native import Panic

if TYPE_CHECKING:
    from fastwrap._native import Meter, Observed
    from fastwrap.relays.base import HeaderList

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: The words for how a request ends that neither came to its end nor was left by its client.
_BROKE_OFF = "engine_closed_connection"
_OWN_FAULT = "internal_error"

_logger = logging.getLogger("fastwrap")


class Passage:
    """What a request's application receives and sends, in the place of the server's ``receive`` and ``send``."""

    __slots__ = ("_head", "_held", "_meter", "_observed", "_receive", "_send", "_waiting")

    def __init__(self, observed: Observed, meter: Meter, receive: Receive, send: Send) -> None:
        self._observed: Observed | None = observed
        self._meter = meter
        self._receive = receive
        self._send = send
        self._waiting: deque[Message] = deque()
        self._head: Message | None = None
        self._held = b""

    async def read(self, scope: Scope, most_bytes: int) -> Scope:
        """Read the request's body before the application does, and ask for usage in it; a larger one is not read.

        Returns:
            The scope for the application: the length of the body may have changed.
        """
        parts: list[bytes] = []
        size, more = 0, True
        while more and size <= most_bytes:
            message = await self._receive()
            if message["type"] != "http.request":
                self._waiting.append(message)
                break
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            more = message.get("more_body", False)
        given = body = parts[0] if len(parts) == 1 else b"".join(parts)
        if self._observed is not None:
            try:
                asked = self._observed.request(b"" if more else given)
                body = given if more else asked
            except (Exception, Panic) as error:  # noqa: BLE001 (the application is not to notice)
                self._fail(error)
        self._waiting.appendleft({"type": "http.request", "body": body, "more_body": more})
        return scope if body is given else {**scope, "headers": [*_resized(scope["headers"], len(body))]}

    async def receive(self) -> Message:
        """Give the application the next message."""
        message = self._waiting.popleft() if self._waiting else await self._receive()
        if message["type"] == "http.disconnect":
            self._end(None)
        return message

    def send(self, message: Message) -> Awaitable[None]:
        """Take a message of the application's: a chunk in which nothing is to be changed goes on as it is."""
        observed = self._observed
        if observed is not None:
            try:
                if message["type"] == "http.response.body":  # here, for a call would cost a chunk a tenth
                    given, more = message.get("body", b""), message.get("more_body", False)
                    body = observed.body(given, more)
                    if body is None:
                        return _nothing()
                    if body is not given:
                        message = {**message, "body": body}
                    if self._head is not None or not more:
                        self._settle(observed, more=more)
                elif message["type"] == "http.response.start":
                    head = self._begin(observed, message)
                    if head is None:
                        return _nothing()
                    message = head
            except (Exception, Panic) as error:  # noqa: BLE001 (the application is not to notice)
                self._fail(error)
        if self._head is None and not self._held:
            return self._send(message)
        return self._let_go(message)

    async def break_off(self, error: BaseException | None = None) -> None:
        """The application has returned, or raised: if its answer is not whole, all that it gave of it goes on."""
        has_left = isinstance(error, asyncio.CancelledError)
        self._end(None if has_left else _BROKE_OFF)
        if not has_left and (self._head or self._held):
            with contextlib.suppress(Exception):  # what the application raised counts
                await self._let_go(None)

    def _begin(self, observed: Observed, message: Message) -> Message | None:
        """Return the head that goes on, or keep it: then None."""
        given = [*message.get("headers", ())]
        headers = observed.head(message["status"], given)
        if headers is not None:
            return {**message, "headers": headers}
        self._head = {**message, "headers": given}
        return None

    def _settle(self, observed: Observed, *, more: bool) -> None:
        """Something goes on of a body whose head waits, or the last of it does."""
        if not more:
            self._observed = None
        if self._head is not None:
            self._head["headers"] = observed.headers()

    async def _let_go(self, message: Message | None) -> None:
        """Send what was held back, and then this."""
        head, held = self._head, self._held
        self._head, self._held = None, b""
        if head is not None:
            await self._send(head)
        if held:
            await self._send({"type": "http.response.body", "body": held, "more_body": True})
        if message is not None:
            await self._send(message)

    def _end(self, fault: str | None) -> None:
        """Measure no more."""
        observed, self._observed = self._observed, None
        if observed is not None:
            self._held = observed.end(fault)

    def _fail(self, error: BaseException) -> None:
        """From now on the answer passes as it is: a fault of fastwrap's own was met."""
        tell(self._meter, error)
        try:
            self._end(_OWN_FAULT)
        except (Exception, Panic):  # noqa: BLE001 (the same again)
            self._observed = None


def tell(meter: Meter, error: BaseException) -> None:
    """Count and log a fault of fastwrap's own."""
    meter.internal_error()
    # Of a panic its place has been logged; its text may quote what was being read.
    _logger.error("a request is not measured", exc_info=None if isinstance(error, Panic) else error)


def _resized(headers: HeaderList, length: int) -> HeaderList:
    return [(name, b"%d" % length if name == b"content-length" else value) for name, value in headers]


async def _nothing() -> None:
    """What is awaited where nothing is sent."""
