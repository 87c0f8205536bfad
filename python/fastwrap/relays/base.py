"""What the application needs of a relay, whichever it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

Headers = Iterable[tuple[bytes, bytes]]
HeaderList = list[tuple[bytes, bytes]]
#: Status and headers the first time, body bytes, and whether more will come.
Part = tuple[tuple[int, HeaderList] | None, bytes, bool]


class Exchange(Protocol):
    """One request and its answer; documented in ``_native.pyi``."""

    def caller(self) -> tuple[str, str | None]: ...  # noqa: D102
    def arrived(self) -> None: ...  # noqa: D102
    def reject(self, status: int, headers: HeaderList, body: bytes, code: str) -> None: ...  # noqa: D102
    def send(self, chunk: bytes, more: bool) -> bool: ...  # noqa: D102
    @property
    def is_uploaded(self) -> bool: ...  # noqa: D102
    def refuse(self, fault: str) -> None: ...  # noqa: D102
    def when_writable(self, future: asyncio.Future[None]) -> None: ...  # noqa: D102
    def take(self) -> Part | None: ...  # noqa: D102
    def when_ready(self, future: asyncio.Future[None]) -> None: ...  # noqa: D102
    def fail(self) -> Part | None: ...  # noqa: D102
    def cancel(self) -> None: ...  # noqa: D102


class Relay(Protocol):
    """The way to one engine."""

    def open(self, method: str, target: bytes, headers: Headers, version: str) -> Exchange: ...  # noqa: D102
    def close(self) -> None: ...  # noqa: D102
