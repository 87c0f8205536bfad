"""What stands in vLLM's server for the tests: below ``/inside`` the middleware, else the application as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastwrap.vllm import PerformanceMiddleware

if TYPE_CHECKING:
    from fastwrap.passage import App, Receive, Scope, Send

PREFIX = "/inside"


class Beside:
    """So that one engine, which takes a minute to load, answers both ways."""

    def __init__(self, app: App) -> None:
        self._bare = app
        self._inside = PerformanceMiddleware(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        path = scope.get("path", "")
        if scope["type"] == "lifespan":
            await self._inside(scope, receive, send)
        elif path.startswith(PREFIX):
            await self._inside({**scope, "path": path.removeprefix(PREFIX)}, receive, send)
        else:
            await self._bare(scope, receive, send)
