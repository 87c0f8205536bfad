"""fastwrap inside an ASGI application: the same numbers in its answers, without a hop.

Requests of measured routes pass through the native core; all others, WebSockets too, are the application's alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from fastwrap import backends, gpu, pages
from fastwrap._native import Meter, Panic
from fastwrap.engine import ask_state
from fastwrap.inside import Inside
from fastwrap.options import in_process_settings
from fastwrap.passage import Passage, tell
from fastwrap.watch import start_watch

if TYPE_CHECKING:
    from fastwrap.passage import App, Receive, Scope, Send
    from fastwrap.settings import InProcessSettings
    from fastwrap.watch import Watch

_NANOSECONDS_PER_MILLISECOND = 1_000_000
#: Whom it lets in, and how much they may send, the application says, and the server that it runs under.
_UNLIMITED = 1 << 62


class PerformanceMiddleware:
    """Adds to an application's answers what they cost.

    Args:
        app: The application.
        settings: What is asked for; without them the environment says, as ``FASTWRAP_ENRICH``.

    Raises:
        SettingsError: If the environment cannot be used.
    """

    #: Which engine the application is where the settings do not say.
    assumed_backend: ClassVar[str] = "openai"

    def __init__(self, app: App, settings: InProcessSettings | None = None) -> None:
        self.app = app
        self.settings = settings = settings or in_process_settings()
        self.meter = Meter(
            enrich=settings.enrich,
            stall_ns=int(settings.stall_ms * _NANOSECONDS_PER_MILLISECOND),
            json_as_stream=False,
            max_body_bytes=_UNLIMITED,
            max_header_bytes=_UNLIMITED,
            max_inflight=0,
        )
        self.backend = backends.backend(self.assumed_backend if settings.backend == "auto" else settings.backend)
        self.backend.apply(self.meter)
        self._sampler: gpu.GpuSampler | None = None
        self._inside: Inside | None = None
        self._watch: Watch | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] == "http":
            path = scope["path"].removeprefix(scope.get("root_path", ""))
            if path.startswith(pages.PREFIX):
                await self._answer_own(scope, path, send)
                return
            passage = self._observe(scope, path, receive, send)
            if passage is not None:
                await self._pass(passage, scope)
                return
        await self.app(scope, receive, send)

    def start(self, scope: Scope) -> Inside:
        """Begin to sample, on the running event loop; where no lifespan is told, at the first request.

        Returns:
            The way to ask the application.
        """
        if self._inside is None:
            self._inside = Inside(self.app, self.backend, scope)
            self._watch = start_watch(self.settings.engine_samples, "", self.meter, self._inside)
            selection = gpu.Selection(self.settings.gpu_devices)
            self._sampler = gpu.start_sampler(self.settings.gpu, self.meter.gpu, selection, _own_processes)
        return self._inside

    async def stop(self) -> None:
        """Undo :meth:`start`."""
        self._inside = None
        if self._watch is not None:
            await self._watch.close()
        if self._sampler is not None:
            self._sampler.stop()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.start(scope)
        try:
            await self.app(scope, receive, send)
        finally:
            await self.stop()

    def _observe(self, scope: Scope, path: str, receive: Receive, send: Send) -> Passage | None:
        try:
            self.start(scope)
            observed = self.meter.observe(scope["method"], path, scope["headers"])
        except (Exception, Panic) as error:  # noqa: BLE001 (the application is not to notice)
            tell(self.meter, error)
            return None
        return Passage(observed, self.meter, receive, send) if observed else None

    async def _pass(self, passage: Passage, scope: Scope) -> None:
        try:
            scope = await passage.read(scope, self.settings.max_body_bytes)
            await self.app(scope, passage.receive, passage.send)
        except BaseException as error:
            await passage.break_off(error)
            raise
        await passage.break_off()

    async def _answer_own(self, scope: Scope, path: str, send: Send) -> None:
        inside = self.start(scope)
        state = partial(ask_state, self.backend, inside.get)
        status, headers, body = await pages.answer(scope["method"], path, self.meter, state)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def _own_processes() -> frozenset[int]:
    from fastwrap.processes import engine_processes  # noqa: PLC0415 (psutil: in the sampler's thread, where there is a GPU)

    return engine_processes("")
