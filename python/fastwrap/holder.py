"""Holds one engine: started by the supervisor, it starts the engine, and ends when all that the engine started has.

It is a process of its own so that no death of the supervisor's leaves an engine behind: it reads the end of a pipe
whose other end the supervisor holds, and when that is closed, by whatever, it kills the engine and all its descendants,
also those that have left its process group. If it is killed itself, the kernel kills the engine, and the supervisor the
rest.
A program, not a module of the package's: it starts in a hundredth of a second, and takes no memory to speak of.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path
from typing import NoReturn

#: Of Linux' prctl(2).
_SIGNAL_AT_PARENTS_DEATH, _ADOPT_ORPHANS = 1, 36
#: What a shell says of a command that is not there, and of one that cannot be executed.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
#: Passed on to the engine: the holder ends with it.
_OF_THE_ENGINE = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT")


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose own parent ends; where the system cannot, do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1)


def end_with_parent(parent: int, number: int) -> None:
    """Let this process get a signal when its parent dies; where the system cannot, do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SIGNAL_AT_PARENTS_DEATH, number)
        if os.getppid() != parent:  # it died before the call above
            os.kill(os.getpid(), number)


def end_descendants(*spared: int) -> None:
    """Kill all children but those spared, and whoever becomes a child by that, until there is none."""
    while children := _children() - {*spared}:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> set[int]:
    with contextlib.suppress(OSError):
        return set(map(int, Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()))
    return set()


def _start(command: list[str]) -> int:
    """Start the engine; return its PID."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    end_with_parent(parent, signal.SIGKILL)
    for name in _OF_THE_ENGINE:
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 (the user's command, as it was given)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        os._exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE)


def _reap(engine: int) -> None:
    """Take note of all that have ended; if the engine is among them, kill what it left, and end as it did."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            if pid == engine:
                end_descendants()
                code = os.waitstatus_to_exitcode(status)
                sys.exit(code if code >= 0 else 128 - code)


def main(descriptor: int, command: list[str]) -> NoReturn:
    """Hold an engine.

    Args:
        descriptor: The reading end of the pipe.
        command: What starts the engine.
    """
    os.set_inheritable(descriptor, False)
    adopt_orphans()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for name in (*_OF_THE_ENGINE, "SIGCHLD"):
        signal.signal(getattr(signal, name), lambda *_: None)
    engine = _start(command)
    while descriptor not in select.select([descriptor, reading], [], [])[0]:
        for number in os.read(reading, 4096):
            if number != signal.SIGCHLD:
                os.kill(engine, number)
        _reap(engine)
    end_descendants()
    os.killpg(0, signal.SIGKILL)  # where orphans are not adopted, the group is all that can be found
    raise AssertionError  # it was among them


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
