"""fastwrap as a process that a Python program starts: ``fastwrap run`` or ``serve``, and nothing else."""

from __future__ import annotations

import atexit
import collections
import contextlib
import http.client
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastwrap import holder
from fastwrap.errors import FastwrapError

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANNOUNCEMENT = re.compile(r"^fastwrap on (http://\S+) -> ")
_ASK_AGAIN_SECONDS = 0.05
_ANSWER_SECONDS = 5.0
#: Of its output, for an error's text.
_TAIL_LINES = 20

_logger = logging.getLogger("fastwrap.service")


class ServiceError(FastwrapError):
    """fastwrap, or the engine that it was to start, does not serve; the text has its last lines."""


class Service:
    """A running ``fastwrap`` command; its output is logged.

    It is held as ``fastwrap run`` holds an engine: no end of this program's leaves it, or its engine, behind.

    Args:
        arguments: Of the command.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._owner = os.getpid()
        self._lines: collections.deque[str] = collections.deque(maxlen=_TAIL_LINES)
        self._announced = threading.Event()
        self.url = ""
        reading, self._life = os.pipe()
        command = [sys.executable, "-I", "-S", holder.__file__, str(reading), sys.executable, "-m", "fastwrap"]
        try:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                [*command, *arguments],
                pass_fds=(reading,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a terminal's Ctrl-C is this program's affair
            )
        finally:
            os.close(reading)
        atexit.register(self.stop)
        self._reader = threading.Thread(target=self._read, name="fastwrap-output", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._lines.append(line)
            _logger.info("%s", line.rstrip())
            if found := _ANNOUNCEMENT.match(line):
                self.url = found[1]
                self._announced.set()
        self._announced.set()

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until the engine serves.

        Raises:
            ServiceError: If it does not in time, or the command ends.
        """
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if self._process.poll() is not None:
                self._reader.join()
                raise ServiceError(f"fastwrap has ended with {self._process.returncode}:\n{self.tail}")
            if time.monotonic() > deadline:
                raise ServiceError(f"the engine is not ready after {seconds:g} s:\n{self.tail}")
            time.sleep(_ASK_AGAIN_SECONDS)

    @property
    def tail(self) -> str:
        """The last lines of its output."""
        return "".join(self._lines)

    def _is_ready(self) -> bool:
        if not self._announced.wait(_ASK_AGAIN_SECONDS) or not self.url:
            return False
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_ANSWER_SECONDS)
        with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    def stop(self) -> None:
        """End it, its engine and all that they started: with SIGTERM, or at once when interrupted."""
        if os.getpid() != self._owner:  # a child that this program has forked has no part in it
            return
        atexit.unregister(self.stop)
        try:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)  # its holder passes it on: a second one would mean "at once"
                self._process.wait()
        finally:
            self._kill()

    def _kill(self) -> None:
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        self._process.wait()
        self._reader.join()
