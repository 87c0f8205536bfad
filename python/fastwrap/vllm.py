"""``vllm serve … --middleware fastwrap.vllm.PerformanceMiddleware``: fastwrap inside vLLM's own server, without a hop.

The environment is read when this module is imported, so that a mistake in it ends vLLM at its start; Starlette makes
the middleware itself when requests are served, and would answer each of them with an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastwrap import middleware
from fastwrap.options import in_process_settings

if TYPE_CHECKING:
    from fastwrap.passage import App
    from fastwrap.settings import InProcessSettings

_SETTINGS = in_process_settings()


class PerformanceMiddleware(middleware.PerformanceMiddleware):
    """The same; the engine is vLLM unless FASTWRAP_BACKEND says otherwise."""

    assumed_backend = "vllm"

    def __init__(self, app: App, settings: InProcessSettings | None = None) -> None:
        super().__init__(app, settings or _SETTINGS)
