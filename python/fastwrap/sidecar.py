"""What a server needs beside the way to the engine: counters, knowledge of the engine, GPU readings, own routes."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from fastwrap import gpu, keys, pages
from fastwrap._native import Meter
from fastwrap.engine import Engine
from fastwrap.watch import start_watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastwrap.gate import Gate
    from fastwrap.hooks.calls import Hooks
    from fastwrap.hooks.checked import Checks
    from fastwrap.relays.base import HeaderList, Headers
    from fastwrap.settings import Settings
    from fastwrap.watch import Watch

_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Sidecar:
    """The same behind every server.

    Args:
        settings: What was asked for.
        counters_directory: Where the worker processes of one server count together; None for a single process.
        gate: Who started the engine says there whether it can serve, and which processes it is; None if nobody did.
    """

    def __init__(self, settings: Settings, counters_directory: str | None = None, gate: Gate | None = None) -> None:
        self.settings = settings
        self.meter = Meter(
            enrich=settings.enrich,
            stall_ns=int(settings.stall_ms * _NANOSECONDS_PER_MILLISECOND),
            json_as_stream=settings.measure_json_as_stream,
            max_body_bytes=settings.max_body_bytes,
            max_header_bytes=settings.max_header_bytes,
            max_inflight=settings.max_inflight,
            counters_directory=counters_directory,
            gate=gate.path if gate else None,
        )
        self.engine = Engine(settings, self.meter)
        if settings.cors_origins:
            self.meter.set_cors(settings.cors_origins)
        self.hooks = _open_hooks(settings, self.meter)
        self._key_files = [*self._open_key_files()]
        for file in self._key_files:
            file.look()
        self._following: asyncio.Task[None] | None = None
        self._gate = gate
        self._sampler: gpu.GpuSampler | None = None
        self._watch: Watch | None = None

    def start(self) -> None:
        """Begin to sample and to find out what the engine is; on the running event loop."""
        selection = gpu.Selection(self.settings.gpu_devices, self.settings.upstream)
        processes = partial(_engine_processes, self.settings.upstream, self._gate)
        self._sampler = gpu.start_sampler(self.settings.gpu, self.meter.gpu, selection, processes)
        if self.hooks is not None:
            self.hooks.start()
        self.engine.start()
        samples, upstream = self.settings.engine_samples, self.settings.upstream
        self._watch = start_watch(samples, upstream, self.meter, self.engine, self._gate)
        if self._key_files:
            self._following = asyncio.get_running_loop().create_task(keys.follow(self._key_files))

    async def stop(self) -> None:
        """Undo :meth:`start`."""
        if self._following is not None:
            self._following.cancel()
        if self._watch is not None:
            await self._watch.close()
        await self.engine.stop()
        if self._sampler is not None:
            self._sampler.stop()
        if self.hooks is not None:
            await asyncio.to_thread(self.hooks.stop)

    def open_checks(self) -> Checks | None:
        """Return the way of an ASGI application's requests past the plugins; None if none wants to see them."""
        if self.hooks is None or not self.hooks.validates:
            return None
        from fastwrap.hooks.checked import Checks  # noqa: PLC0415 (for those who use it)

        return Checks(self.hooks, self.settings.hook_timeout, self.settings.max_body_bytes)

    def _open_key_files(self) -> Iterator[keys.KeyFile]:
        """Take the keys from their files; where one cannot be used any more, nobody is let in until it can."""
        if self.settings.api_key_file:
            self.meter.set_keys([])
            yield keys.KeyFile(self.settings.api_key_file, self.meter.set_keys)
        if self.settings.upstream_api_key_file:
            yield keys.KeyFile(self.settings.upstream_api_key_file, self._use_engine_key)

    def _use_engine_key(self, found: list[str]) -> None:
        self.meter.set_engine_key(found[0])
        self.engine.key = found[0]

    async def answer(self, method: str, path: str, headers: Headers) -> tuple[int, HeaderList, bytes]:
        """Answer one of fastwrap's own routes (:mod:`fastwrap.pages`), or refuse it.

        Returns:
            Status, headers and body.
        """
        refusal, added = self.meter.guard_own(method, headers, is_open=path in pages.OPEN)
        if refusal is not None:
            return refusal
        status, told, body = await pages.answer(method, path, self.meter, self.engine.state)
        return status, [*told, *added], body


def _open_hooks(settings: Settings, meter: Meter) -> Hooks | None:
    if not settings.has_plugins:
        return None
    from fastwrap.hooks.calls import Hooks  # noqa: PLC0415 (for those who use it)

    return Hooks(meter, settings.plugin, hides_keys=bool(settings.api_key_file))


def _engine_processes(upstream: str, gate: Gate | None) -> frozenset[int]:
    from fastwrap.processes import engine_processes  # noqa: PLC0415 (psutil: in the sampler's thread, where there is a GPU)

    return engine_processes(upstream, gate)
