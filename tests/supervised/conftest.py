"""Engines that fail in every way, and `fastwrap run` before them on both servers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from proxy.processes import COMMAND, DEADLINE_S, Run

SERVERS = ("granian", "native")
Start = Callable[..., Run]
Finish = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def port() -> int:
    """A port for the engine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free: int = probe.getsockname()[1]
    return free


@pytest.fixture
def engine(port: int) -> tuple[str, ...]:
    """The command of a simulated engine."""
    return (COMMAND, "engine", "--model", "m", "--port", str(port))


@pytest.fixture
def upstream(port: int) -> tuple[str, ...]:
    """The option for an engine whose command does not tell its port."""
    return ("--upstream", f"http://127.0.0.1:{port}")


@pytest.fixture
def start(server: str) -> Iterator[Start]:
    """Starts a `fastwrap run` for one test alone."""
    with ExitStack() as cleanup:

        def begin(engine: tuple[str, ...], *options: str) -> Run:
            running = Run(engine, "--server", server, *options)
            cleanup.callback(running.stop)
            return running

        yield begin


@pytest.fixture
def finish() -> Finish:
    """Runs a `fastwrap run` to its end, on the native server if no other is named."""

    def run(engine: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
        command = [COMMAND, "run", "--server", "native", "--gpu", "off", "--port", "0", *options, "--", *engine]
        return subprocess.run(command, capture_output=True, encoding="latin-1", timeout=DEADLINE_S, check=False)

    return run


class Family:
    """Processes that an engine starts: one in its group and one in a session of its own; each writes down its PID."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        one = 'echo $$ > "$0/$1.tmp" && mv "$0/$1.tmp" "$0/$1" && exec sleep 1000'
        self.script = f"sh -c '{one}' {folder} child & setsid sh -c '{one}' {folder} stray & "

    @property
    def pids(self) -> list[int]:
        """Those that have been started."""
        return [int((self._folder / name).read_text()) for name in ("child", "stray") if (self._folder / name).exists()]

    @property
    def is_alive(self) -> bool:
        return any(map(alive, self.pids))


def alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie: who adopts it may be slow to take note."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    found = Family(tmp_path)
    yield found
    for pid in found.pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
