"""An engine that is an application of this process: it is asked by calling it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from fastwrap.errors import EngineError

if TYPE_CHECKING:
    from fastwrap.backends.base import Backend
    from fastwrap.passage import App, Message, Scope
    from fastwrap.upstream import Reply

#: What Starlette puts into every scope before its middleware sees it, and its routes look for.
_OUTER = ("app", "state")


class Inside:
    """See :class:`fastwrap.watch.Asked`.

    Args:
        app: The application.
        backend: Which engine it is.
        scope: Any scope that it got from its server.
    """

    def __init__(self, app: App, backend: Backend, scope: Scope) -> None:
        self._app = app
        self.backend = backend
        self._outer = {name: scope[name] for name in _OUTER if name in scope}

    async def get(self, path: str) -> Reply:
        """Ask for a page.

        Raises:
            EngineError: If the application returns without an answer.
        """
        from fastwrap.upstream import Reply  # noqa: PLC0415 (httpx takes 0.1 s: not before there is something to ask)

        status, body = 0, b""

        async def receive() -> Message:
            if asked:
                return asked.pop()
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: Message) -> None:
            nonlocal status, body
            status = message.get("status", status)
            body += message.get("body", b"")

        asked: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]
        began = time.monotonic()
        await self._app(self._scope(path), receive, send)
        if not status:
            raise EngineError("engine_closed_connection", f"{path}: no answer")
        return Reply(status, {}, body, time.monotonic() - began)

    def _scope(self, path: str) -> Scope:
        return {
            **self._outer,
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"fastwrap")],
            "client": None,
            "server": None,
        }
