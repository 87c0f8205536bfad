"""Notices clients that leave while they are answered.

ASGI tells of a departure only to whoever awaits ``receive()``. That costs a task, and under Granian hand-overs between
threads, and most answers are there before anybody leaves: a watch begins at the next turn of a clock.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from fastwrap.relays.base import Exchange

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]

#: How long a departure may go unnoticed: a fifth of what is promised.
_TURN_SECONDS = 0.05


class Watch:
    """What one client does while it is answered: it sends the rest of its body, and may leave."""

    __slots__ = ("_exchange", "_first", "_is_full", "_is_over", "_receive", "_task", "has_left", "received_bytes")

    def __init__(self, exchange: Exchange, receive: Receive) -> None:
        self._exchange = exchange
        self._receive = receive
        self._is_full = False
        self._first: asyncio.Task[Any] | None = None
        self._task: asyncio.Task[None] | None = None
        self.has_left = False
        self.received_bytes = 0
        self._is_over = False

    @property
    def waits_for_client(self) -> bool:
        """Whether more of the body is to come, and there is room for it."""
        return not (self._is_full or self._exchange.is_uploaded)

    async def first(self) -> None:
        """Await the first message, which holds most bodies whole, without a task of its own."""
        self._first = asyncio.current_task()
        try:
            self.take(await self._receive())
        except asyncio.CancelledError:
            if self._first is not None:
                raise
        self._first = None

    def refuse(self, fault: str) -> None:
        """Wait for the body no longer: the exchange has its answer."""
        self._exchange.refuse(fault)
        if self._first is not None:
            self._first.cancel()
            self._first = None

    def take(self, message: Message) -> None:
        """Pass a piece of the body on, or let the exchange go if the client has left."""
        if message["type"] == "http.request":
            body = message.get("body", b"")
            self.received_bytes += len(body)
            self._is_full = not self._exchange.send(body, message.get("more_body", False))
        else:
            self.has_left = True
            self._exchange.cancel()

    def begin(self) -> None:
        """Await messages from now on."""
        if not self._is_over:
            self._task = asyncio.get_running_loop().create_task(self._run())

    def end(self) -> None:
        """Await no more: the answer is over."""
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
            self._task = None  # it holds this watch: together they would keep the client's connection open

    async def _run(self) -> None:
        while not self.has_left:
            if self._is_full:
                room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._exchange.when_writable(room)
                await room
            self.take(await self._receive())


class Departures:
    """The clock of all watches that have no body to pass on."""

    def __init__(self) -> None:
        self._waiting: list[Watch] = []

    def begin_soon(self, watch: Watch) -> None:
        """Begin a watch at the next turn, unless it is over by then."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(_TURN_SECONDS, self._turn)
        self._waiting.append(watch)

    def _turn(self) -> None:
        waiting, self._waiting = self._waiting, []
        for watch in waiting:
            watch.begin()
