"""The native server: hyper in front of the relay, no Python on a request's way. Own routes are answered here."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

from fastwrap._native import Reply, Server
from fastwrap.servers.base import Address, claim, configure_logging
from fastwrap.sidecar import Sidecar

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.gate import Gate
    from fastwrap.relays.base import HeaderList
    from fastwrap.settings import Settings


def serve(settings: Settings, on_start: Callable[[str], None], gate: Gate | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: What was asked for.
        on_start: Called with where it listens, when it serves.
        gate: Before an engine that fastwrap itself started.

    Raises:
        PortError: If the address cannot be listened on.
    """
    configure_logging(settings)
    asyncio.run(_serve(Sidecar(settings, gate=gate), claim(settings), on_start))


async def _serve(sidecar: Sidecar, address: Address, on_start: Callable[[str], None]) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    settings, hooks = sidecar.settings, sidecar.hooks
    answering: set[asyncio.Task[None]] = set()

    async def reply_to(method: str, path: str, headers: HeaderList, reply: Reply) -> None:
        reply(*await sidecar.answer(method, path, headers))

    def answer(method: str, path: str, headers: HeaderList, reply: Reply) -> None:
        task = loop.create_task(reply_to(method, path, headers, reply))
        answering.add(task)
        task.add_done_callback(answering.discard)

    server = Server(
        sidecar.meter,
        settings.upstream,
        lambda *request: loop.call_soon_threadsafe(answer, *request),
        check=(hooks.validate, hooks.late, settings.hook_timeout) if hooks and hooks.validates else None,
        host=address.host,
        port=address.port,
        uds=address.path,
        workers=settings.workers,
        grace=settings.grace,
        header_timeout=settings.header_timeout,
        body_timeout=settings.body_timeout,
        **settings.timeouts,
    )
    sidecar.start()
    on_start(str(address))
    await stopped.wait()
    address.withdraw()  # at once: whoever takes the place while requests in flight end makes a file of its own
    await asyncio.to_thread(server.stop)
    await sidecar.stop()
