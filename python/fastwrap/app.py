"""The ASGI application: every request goes to the engine, except those under ``/-/``.

It runs under any ASGI server and can be mounted in any ASGI application. Python passes on what has arrived and never
looks into it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fastwrap import _native, gpu, own_routes
from fastwrap.engine import Engine
from fastwrap.relays import open_relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastwrap.relays.base import Exchange, Relay
    from fastwrap.settings import Settings

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Application:
    """The proxy as an ASGI application.

    Args:
        settings: What was asked for.
        counters_directory: Where the workers of one server count together; None for a server of one process.
    """

    def __init__(self, settings: Settings, counters_directory: str | None = None) -> None:
        self.settings = settings
        self.meter = _native.Meter(
            enrich=settings.enrich,
            stall_ns=int(settings.stall_ms * _NANOSECONDS_PER_MILLISECOND),
            max_body_bytes=settings.max_body_bytes,
            max_header_bytes=settings.max_header_bytes,
            max_inflight=settings.max_inflight,
            counters_directory=counters_directory,
        )
        self.engine = Engine(settings, self.meter)
        self._relay: Relay | None = None
        self._sampler: gpu.GpuSampler | None = None

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
        """Open the relay and start sampling; on the running event loop. Mounted applications start at their first request."""
        if self._relay is None:
            self._relay = open_relay(self.settings, self.meter)
            self._sampler = gpu.start_sampler(self.settings.gpu, self.meter.memory)
            self.engine.start()
        return self._relay

    async def stop(self) -> None:
        """Undo :meth:`start`."""
        if self._relay is not None:
            await self.engine.stop()
            if self._sampler is not None:
                self._sampler.stop()
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
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(own_routes.PREFIX):
            self.start()
            await own_routes.answer(self, scope["method"], path, send)
            return
        relay = self._relay or self.start()
        exchange = relay.open(scope["method"], _target(scope), scope["headers"])
        message = await receive()
        if message["type"] == "http.disconnect":
            exchange.cancel()
            return
        watch = asyncio.ensure_future(_upload(exchange, message, receive))
        try:
            await _answer(exchange, send, watch)
        finally:
            watch.cancel()
            exchange.cancel()


def _target(scope: Scope) -> bytes:
    """The request's target as the client wrote it, below the path at which fastwrap is mounted."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    root = scope.get("root_path", "").encode()
    path = raw.removeprefix(root) or b"/"
    query: bytes = scope.get("query_string", b"")
    return b"%b?%b" % (path, query) if query else path


async def _upload(exchange: Exchange, message: Message, receive: Receive) -> None:
    """Pass the body on, then wait for the client to leave."""
    while message["type"] == "http.request":
        more: bool = message.get("more_body", False)
        if not exchange.send(message.get("body", b""), more):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            exchange.when_writable(room)
            await room
        message = await receive()
    exchange.cancel()


async def _answer(exchange: Exchange, send: Send, watch: asyncio.Future[None]) -> None:
    loop = asyncio.get_running_loop()
    more = True
    while more:
        try:
            part = exchange.take()
        except _native.AnswerAborted:
            if watch.done():  # the client has left: nobody is to be told
                return
            raise
        if part is None:
            ready: asyncio.Future[None] = loop.create_future()
            exchange.when_ready(ready)
            await ready
            continue
        head, body, more = part
        if head is not None:
            status, headers = head
            await send({"type": "http.response.start", "status": status, "headers": headers})
        if body or not more:
            await send({"type": "http.response.body", "body": body, "more_body": more})
