"""Imported by every Python that has this folder on its path: the application fails where a message asks for it."""

from __future__ import annotations

from typing import Any

from fastwrap import app as application

MARK = b"provoke an exception"
_call = application.Application.__call__
_give = application._give  # noqa: SLF001


async def _called(self: application.Application, scope: Any, receive: Any, send: Any) -> None:
    async def broken() -> Any:
        raise RuntimeError(MARK)

    is_wanted = (b"x-fault", b"exception") in scope.get("headers", ())
    await _call(self, scope, broken if is_wanted else receive, send)


async def _given(part: Any, send: Any) -> bool:
    if MARK in part[1]:
        raise RuntimeError(MARK)
    return await _give(part, send)


application.Application.__call__ = _called  # type: ignore[method-assign]
application._give = _given  # noqa: SLF001
