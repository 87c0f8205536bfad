"""Granian: the application as any ASGI server can run it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from fastwrap._native import AnswerAborted
from fastwrap.holder import end_with_parent
from fastwrap.servers.base import LOG_FORMAT, claim, configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.app import Application
    from fastwrap.gate import Gate
    from fastwrap.servers.base import Address
    from fastwrap.settings import Settings

#: What stands for no timeout: 30 years.
_NEVER_SECONDS = 1e9
#: Bytes that may be buffered beyond the headers that are allowed, as in the native server.
_EXTRA_BUFFER_BYTES = 64 << 10
#: Granian limits connections, idle ones included, not requests; those are limited by ``max_inflight``.
_MAX_CONNECTIONS = 65_536
#: Connections that may wait to be accepted: as many as Linux lets wait.
_BACKLOG = 4096


class _Aborts(logging.Filter):
    """Tells in a line what Granian reports as an exception: an application has no other way to abort a connection."""

    def filter(self, record: logging.LogRecord) -> bool:
        if AnswerAborted.__name__ in record.getMessage():
            record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
            record.msg, record.args = "an engine's answer broke off: its client's connection was aborted", None
        return True


#: Granian's own log goes where fastwrap's goes, standard error, in the same form.
_LOGGING = {
    "formatters": {"line": {"format": LOG_FORMAT}},
    "filters": {"aborts": {"()": _Aborts}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["aborts"]}},
    "loggers": {"_granian": {"handlers": ["console"], "propagate": False}},
}
_LONGEST_START_SECONDS = 30.0
_LONGEST_SLEEP_SECONDS = 0.5


def _load(settings: Settings, counters_directory: str | None, gate: Gate | None, parent: int) -> Application:
    """Make the application, inside a worker."""
    from fastwrap.app import Application  # noqa: PLC0415

    for number in (signal.SIGTERM, signal.SIGINT):  # until Granian takes them: the server's handlers came with the fork
        signal.signal(number, signal.SIG_DFL)
    # One that outlives a server that was killed would hold the port, unseen. Not by SIGTERM: before Granian runs the
    # worker's loop, its handler waits with the GIL held, for ever.
    end_with_parent(parent, signal.SIGKILL)
    configure_logging(settings)
    return Application(settings, counters_directory, gate)


class _Wakening(threading.Event):
    """What Granian's main thread waits on as soon as its workers are spawned.

    It says when they accept connections, which Granian does not tell: here and not in a thread, for a worker that is
    forked while a thread imports something waits for that import for ever. And it wakes now and then: Python handles
    a signal in the main thread only, and sleeps on if the kernel gave it to another one.

    It is set by handlers of signals, which may interrupt its waiting at any moment: an event's own lock would be held
    by whom it interrupts then, for ever.
    """

    def __init__(self, address: Address, on_start: Callable[[str], None], on_wake: Callable[[], None]) -> None:
        super().__init__()
        self._address = address
        self._on_start: Callable[[str], None] | None = on_start
        self._on_wake = on_wake
        self._is_set = False
        self._wakes: SimpleQueue[None] = SimpleQueue()  # which a handler may put to while its own thread gets

    def set(self) -> None:
        self._is_set = True
        self._wakes.put(None)

    def clear(self) -> None:
        self._is_set = False

    def is_set(self) -> bool:
        return self._is_set

    def _sleep(self, seconds: float) -> bool:
        if not self._is_set:
            with contextlib.suppress(Empty):
                self._wakes.get(timeout=seconds)
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        if self._on_start is not None:
            self._announce(self._on_start)
            self._on_start = None
        while not self._sleep(_LONGEST_SLEEP_SECONDS if timeout is None else timeout):
            if timeout is not None:
                return False
        self._on_wake()
        return True

    def _announce(self, on_start: Callable[[str], None]) -> None:
        deadline = time.monotonic() + _LONGEST_START_SECONDS
        while time.monotonic() < deadline and not self._sleep(0.005):
            with contextlib.suppress(OSError), self._address.connect(1.0):
                on_start(str(self._address))
                return


def _check_plugins(settings: Settings) -> None:
    """Load the plugins, as each worker will for itself; there an error would be met again and again."""
    if settings.has_plugins:
        from fastwrap.hooks.loading import load  # noqa: PLC0415 (for those who use it)

        load(settings.plugin)


def serve(settings: Settings, on_start: Callable[[str], None], gate: Gate | None = None) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        settings: What was asked for.
        on_start: Called with where it listens, when it serves.
        gate: Before an engine that fastwrap itself started.

    Raises:
        PluginError: If a plugin cannot be loaded.
        PortError: If the address cannot be listened on.
    """
    from granian.constants import HTTPModes, Interfaces, Loops  # noqa: PLC0415 (only this command needs it)
    from granian.http import HTTP1Settings  # noqa: PLC0415
    from granian.log import LogLevels  # noqa: PLC0415
    from granian.server import Server  # noqa: PLC0415

    _check_plugins(settings)
    address = claim(settings)
    with tempfile.TemporaryDirectory(prefix="fastwrap-") as directory:
        server = Server(
            "fastwrap",
            address=address.host,
            port=address.port,
            uds=address.path,
            interface=Interfaces.ASGI,
            workers=settings.workers,
            loop=Loops.asyncio if sys.platform == "win32" else Loops.uvloop,
            http=HTTPModes.http1,
            websockets=False,
            backlog=_BACKLOG,
            backpressure=_MAX_CONNECTIONS,
            http1_settings=HTTP1Settings(
                header_read_timeout=round((settings.header_timeout or _NEVER_SECONDS) * 1000),
                max_buffer_size=settings.max_header_bytes + _EXTRA_BUFFER_BYTES,
            ),
            ssl_cert=Path(settings.tls_certificate) if address.tls else None,
            ssl_key=Path(settings.tls_key) if address.tls else None,
            log_dictconfig=_LOGGING,
            log_level=LogLevels(settings.log_level if settings.log_level != "info" else "warning"),
            workers_kill_timeout=max(1, round(settings.grace)),
            respawn_failed_workers=True,
        )

        def on_wake() -> None:
            if server.interrupt_signal:
                # At once, where Granian would do it last: whoever takes the place meanwhile makes a file of its own.
                address.withdraw()
                server.bind_uds = None

        server.main_loop_interrupt = _Wakening(address, on_start, on_wake)
        counters_directory = directory if settings.workers > 1 else None
        server.serve(target_loader=partial(_load, settings, counters_directory, gate, os.getpid()), wrap_loader=False)
