"""The native server: hyper in front of the relay, no Python on a request's way. Own routes are answered here."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from fastwrap._native import Reply, Server
from fastwrap.servers.base import claim_port, configure_logging
from fastwrap.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.settings import Settings


def serve(settings: Settings, on_start: Callable[[str, int], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: What was asked for.
        on_start: Called with host and port when it serves.

    Raises:
        PortError: If the address cannot be listened on.
    """
    configure_logging(settings)
    port = claim_port(settings.host, settings.port)
    asyncio.run(_serve(settings, port, on_start))


async def _serve(settings: Settings, port: int, on_start: Callable[[str, int], None]) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    sidecar = Sidecar(settings)
    answering: set[asyncio.Task[None]] = set()

    async def reply_to(method: str, path: str, reply: Reply) -> None:
        reply(*await sidecar.answer(method, path))

    def answer(method: str, path: str, reply: Reply) -> None:
        task = loop.create_task(reply_to(method, path, reply))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = Server(
        sidecar.meter,
        settings.upstream,
        lambda method, path, reply: loop.call_soon_threadsafe(answer, method, path, reply),
        host=settings.host,
        port=port,
        workers=settings.workers,
        grace=settings.grace,
        **settings.timeouts,
    )
    sidecar.start()
    on_start(settings.host, port)
    await stopped.wait()
    await asyncio.to_thread(server.stop)
    await sidecar.stop()
