"""Bounds the time that a client takes for its body, which neither ASGI nor Granian does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastwrap.departures import Watch

#: What each byte adds to the time for all: nobody keeps a place for ever by one byte now and then.
_SECONDS_PER_BYTE = 0.002
_LONGEST_TURN_SECONDS = 1.0


class Pace:
    """How a body comes: the seconds that were waited for its next piece, and for all of them."""

    __slots__ = ("received_bytes", "silent_seconds", "waited_seconds")

    def __init__(self) -> None:
        self.received_bytes = 0
        self.silent_seconds = 0.0
        self.waited_seconds = 0.0


class Uploads:
    """The clock of all requests whose body is still to come.

    Args:
        timeout_seconds: Of silence, and for a whole body beside what its bytes add; 0 for any time.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._turn_seconds = min(timeout_seconds / 4, _LONGEST_TURN_SECONDS)
        self._paces: dict[Watch, Pace] = {}
        self._ticks = False

    def begin(self, watch: Watch) -> None:
        """Time the watch's body, until it is whole or :meth:`end`."""
        if self._timeout_seconds:
            self._paces[watch] = Pace()
            self._tick()

    def end(self, watch: Watch) -> None:
        """Time it no more."""
        self._paces.pop(watch, None)

    def _tick(self) -> None:
        if self._paces and not self._ticks:
            self._ticks = True
            asyncio.get_running_loop().call_later(self._turn_seconds, self._turn)

    def _turn(self) -> None:
        self._ticks = False
        for watch, pace in [*self._paces.items()]:
            if watch.waits_for_client and self._is_late(watch, pace):
                self.end(watch)
                watch.refuse("body_timeout")
        self._tick()

    def _is_late(self, watch: Watch, pace: Pace) -> bool:
        if pace.received_bytes != watch.received_bytes:
            pace.received_bytes = watch.received_bytes
            pace.silent_seconds = 0.0
        pace.silent_seconds += self._turn_seconds
        pace.waited_seconds += self._turn_seconds
        allowed_seconds = self._timeout_seconds + pace.received_bytes * _SECONDS_PER_BYTE
        return pace.silent_seconds > self._timeout_seconds or pace.waited_seconds > allowed_seconds
