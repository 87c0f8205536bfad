"""The command line as a user runs it: as a process, with no settings of the environment's."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEADLINE_S = 30.0  # a failing test ends; a passing one never waits for it
COMMAND = (sys.executable, "-m", "fastwrap")
_MARK = "TEST_OF_FASTWRAP"


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without settings, and without what changes how text is shown."""
    dropped = ("FASTWRAP_", "FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "COLUMNS": "80", "PYTHONIOENCODING": "utf-8", **more}


@pytest.fixture(scope="session", autouse=True)
def _signals() -> Iterator[None]:
    """A shell's background job ignores some signals, and so would what it starts: here they are as in a terminal."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def run() -> Run:
    """Runs a command to its end."""

    def start(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        command = [*COMMAND, *arguments]
        with subprocess.Popen(
            command,
            env=clean_environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # workers as well
                raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    return start


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody listens, and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port on which nobody listens, and which nobody else can get."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield reserved.getsockname()[1]


class Running:
    """A command that runs; what it prints is read as it comes."""

    def __init__(self, arguments: tuple[str, ...]) -> None:
        self._mark = uuid.uuid4().hex
        self._text = ""
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=clean_environment(**{_MARK: self._mark}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def text(self) -> str:
        with self._changed:
            return self._text

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until the output matches."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or re.search(pattern, self._text), DEADLINE_S)
            found = re.search(pattern, self._text)
            assert found, f"{pattern!r} did not come:\n{self._text}"
            return found

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, or none; return the exit status."""
        if number is not None:
            self.process.send_signal(number)
        status = self.process.wait(DEADLINE_S)
        self._reader.join(DEADLINE_S)
        assert not self._reader.is_alive(), "somebody still holds the output"
        return status

    def family(self, word: str = "") -> list[int]:
        """The processes that it started, itself apart; those whose command line has a word."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if (
                    entry.name.isdigit()
                    and int(entry.name) != self.process.pid
                    and f"{_MARK}={self._mark}".encode() in (entry / "environ").read_bytes()
                    and word.encode() in (entry / "cmdline").read_bytes().split(b"\0")
                ):
                    found.append(int(entry.name))
        return found

    def tidy(self) -> None:
        """Leave nothing behind, whatever the test did."""
        for pid in (self.process.pid, *self.family()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as output:
            raw = b""
            while piece := output.read1(65536):  # type: ignore[attr-defined]
                raw += piece
                with self._changed:
                    self._text = raw.decode(errors="ignore")
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a command and goes on."""
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(arguments))
        return running[-1]

    yield begin
    for one in running:
        one.tidy()


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object], str], None]:
    """Asks again and again until a condition holds."""

    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        pause = threading.Event()
        while not condition():
            assert time.monotonic() < deadline, f"not within {DEADLINE_S} s: {what}"
            pause.wait(0.01)

    return wait
