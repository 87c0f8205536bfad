"""The ASGI application: every request goes to the engine, except those under ``/-/``.

It runs under any ASGI server and can be mounted in any ASGI application. Python passes on what has arrived and never
looks into it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from fastwrap._native import AnswerAborted, Panic, is_request_acceptable, refusal
from fastwrap.departures import Departures, Watch
from fastwrap.pages import PREFIX
from fastwrap.relays import open_relay
from fastwrap.sidecar import Sidecar
from fastwrap.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastwrap.departures import Message, Receive
    from fastwrap.gate import Gate
    from fastwrap.relays.base import Exchange, Part, Relay
    from fastwrap.settings import Settings

    Scope = MutableMapping[str, Any]
    Send = Callable[[Message], Awaitable[None]]


_PREFIX = PREFIX.encode()
_logger = logging.getLogger("fastwrap")


class Application:
    """The proxy as an ASGI application.

    Args:
        settings: What was asked for.
        counters_directory: Where the workers of one server count together; None for a server of one process.
        gate: Before an engine that fastwrap itself started.
    """

    def __init__(self, settings: Settings, counters_directory: str | None = None, gate: Gate | None = None) -> None:
        self.settings = settings
        self.sidecar = Sidecar(settings, counters_directory, gate)
        self._departures = Departures()
        self._uploads = Uploads(settings.body_timeout)
        self._relay: Relay | None = None
        self._checks = self.sidecar.open_checks()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        kind = scope["type"]
        if kind == "http":
            await self._serve(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        elif kind == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1003, "reason": "fastwrap does not proxy WebSockets"})

    def start(self) -> Relay:
        """Open the relay and all beside it, on the running event loop; a mounted one starts at its first request."""
        if self._relay is None:
            self._relay = open_relay(self.settings, self.sidecar.meter)
            self.sidecar.start()
        return self._relay

    async def stop(self) -> None:
        """Undo :meth:`start`."""
        if self._relay is not None:
            await self.sidecar.stop()
            self._relay.close()
            self._relay = None

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.start()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = _target(scope)
        relay = self._relay or self.start()
        if target.startswith(_PREFIX):
            await self._answer_own(scope, target, send)
            return
        exchange = relay.open(scope["method"], target, scope["headers"], scope.get("http_version", "1.1"))
        refusal = exchange.take()
        if refusal is not None:  # whatever the client still has to send
            await _give(refusal, send)
            return
        if self._checks is not None:
            exchange = self._checks.before(exchange, scope["method"], target, scope["headers"])
        try:
            await self._exchange(exchange, receive, send)
        except (AnswerAborted, OSError):  # an OSError is how some servers say that the client has left
            raise
        except (Exception, Panic) as error:
            told = exchange.fail()
            # Of a panic its place has been logged; its text may quote what was being read.
            _logger.exception("a request failed", exc_info=None if isinstance(error, Panic) else error)
            if told is None:  # it has begun: only an abort tells that this is not its end
                raise AnswerAborted("fastwrap failed") from None
            await _give(told, send)
        finally:
            exchange.cancel()

    async def _exchange(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        watch = Watch(exchange, receive)
        self._uploads.begin(watch)
        try:
            await watch.first()
            if exchange.is_uploaded:
                self._uploads.end(watch)
                self._departures.begin_soon(watch)
            else:
                watch.begin()
            await _answer(exchange, send, watch)
        finally:
            self._uploads.end(watch)
            watch.end()

    async def _answer_own(self, scope: Scope, target: bytes, send: Send) -> None:
        method, headers = scope["method"], scope["headers"]
        if is_request_acceptable(method, target, headers, scope.get("http_version", "1.1")):
            path = target.partition(b"?")[0].decode("latin-1")
            status, headers, body = await self.sidecar.answer(method, path, headers)
        else:
            status, headers, body = refusal("bad_request")
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


def _target(scope: Scope) -> bytes:
    """The request's target as the client wrote it, below the path at which fastwrap is mounted.

    Without a path it is no target of ours, and is refused: Granian gives none for ``GET host:80``.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    root = scope.get("root_path", "").encode()
    path = raw.removeprefix(root) or (b"/" if root else b"")
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


async def _answer(exchange: Exchange, send: Send, watch: Watch) -> None:
    begun, more = False, True
    while more:
        try:
            part = exchange.take()
        except AnswerAborted:
            if not watch.has_left:
                raise
            if not begun:  # nobody reads it, unless the body's framing was malformed, which looks the same
                status, headers, body = refusal("bad_request")
                await _give(((status, headers), body, False), send)
            return
        if part is None:
            ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            exchange.when_ready(ready)
            await ready
            continue
        begun = True
        more = await _give(part, send)


async def _give(part: Part, send: Send) -> bool:
    """Pass a part of the answer on; return whether more will come."""
    head, body, more = part
    if head is not None:
        status, headers = head
        await send({"type": "http.response.start", "status": status, "headers": headers})
    if body or not more:
        await send({"type": "http.response.body", "body": body, "more_body": more})
    return more
