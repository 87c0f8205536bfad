"""The processes of ``fastwrap run``: how they are started, and how their ends are noticed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, TextIO

from fastwrap import holder
from fastwrap.errors import FastwrapError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "engine | "
#: A longer line is passed on in parts.
_LINE_CHARACTERS = 1 << 16
#: For the last lines of an engine that has ended; nobody holds the pipe then.
_OUTPUT_SECONDS = 5.0


class LogError(FastwrapError):
    """The engine's output cannot be written where it was to be."""


class Children:
    """Reaps all that end, also the orphans that a container's first process gets; on the running event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ends: dict[int, asyncio.Future[int]] = {}
        self._loop.add_signal_handler(signal.SIGCHLD, self.reap)

    def watch(self, pid: int) -> asyncio.Future[int]:
        """Return what will have its exit code: minus the signal for one that was killed."""
        end = self._ends[pid] = self._loop.create_future()
        self._loop.call_soon(self.reap)  # it may have ended before anybody looked
        return end

    def reap(self) -> None:
        """Take note of all that have ended."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                end = self._ends.pop(pid, None)
                if end is not None and not end.done():
                    end.set_result(os.waitstatus_to_exitcode(status))


class EngineProcess:
    """One life of the engine.

    Args:
        command: What starts it.
        children: Who notices its end.
        log: The file for its output; empty to pass it on.

    Attributes:
        pid: The process that holds it, and leads its group.
        ended: Will have the holder's exit code, which is the engine's, or 128 + the signal that killed the engine.

    Raises:
        LogError: If the file cannot be written to.
    """

    def __init__(self, command: Sequence[str], children: Children, log: str) -> None:
        reading, self._life = os.pipe()
        self._readers: list[threading.Thread] = []
        outputs = _log(log) if log else [self._passed_on(stream) for stream in (sys.stdout, sys.stderr)]
        null = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(reading, True)
        moves = [(os.POSIX_SPAWN_DUP2, taken, given) for given, taken in enumerate((null, *outputs))]
        program = [sys.executable, "-I", "-S", holder.__file__, str(reading), *command]
        self.pid = os.posix_spawn(sys.executable, program, os.environ, file_actions=moves, setpgroup=0)
        for descriptor in {reading, null, *outputs}:
            os.close(descriptor)
        self.ended = children.watch(self.pid)

    def _passed_on(self, stream: TextIO) -> int:
        reading, writing = os.pipe()
        thread = threading.Thread(target=_pass_on, args=(reading, stream), daemon=True)
        thread.start()
        self._readers.append(thread)
        return writing

    def signal(self, number: int) -> None:
        """Send it a signal, as a container's runtime would: what becomes of its own processes is its affair."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Let nothing of it be left."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1

    async def end(self, number: int, seconds: float) -> None:
        """Ask it to end, if it has not, and kill it if it does not in time; 0 seconds are no limit."""
        if not self.ended.done():
            self.signal(number)
            await asyncio.wait([self.ended], timeout=seconds or None)
        self.kill()
        await self.ended

    async def close(self, *spared: int) -> int:
        """See that nothing is left of it, and pass on its last lines; it has ended.

        Args:
            spared: Children that are not the engine's.

        Returns:
            Its exit code.
        """
        code = await self.ended
        if code < 0:  # whoever held it was killed: what is left are our children now
            holder.end_descendants(*spared)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)  # where the system lets nobody adopt orphans
        for thread in self._readers:
            await asyncio.to_thread(thread.join, _OUTPUT_SECONDS)
        return code if code >= 0 else 128 - code


def _log(path: str) -> list[int]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise LogError(f"{path} cannot be written to: {error.strerror}; choose another --engine-log") from error
    return [descriptor, descriptor]


def _pass_on(descriptor: int, stream: TextIO) -> None:
    """Write each line with a prefix, whatever its bytes; a carriage return ends one too, as of a progress bar.

    It reads on where nobody takes what it writes: that is no reason for the engine to end.
    """
    with open(descriptor, encoding="latin-1") as lines:  # of which every byte is a character
        for line in iter(partial(lines.readline, _LINE_CHARACTERS), ""):
            with contextlib.suppress(OSError, ValueError):
                text = line.removesuffix("\n")  # and no other character that latin-1 calls a space
                stream.buffer.write(f"{PREFIX}{text}\n".encode("latin-1"))
                stream.flush()
