"""Processes in groups of their own, on CPUs of their own, which end with the run."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from typing import TYPE_CHECKING

from harness.proxy import MODEL, Launch, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: LiteLLM imports for twenty seconds on a slow CPU that it shares with the others.
LONGEST_START_SECONDS = 180.0
_LONGEST_STOP_SECONDS = 5.0
_LONGEST_ANSWER_SECONDS = 30.0
_PAUSE_SECONDS = 0.05
_OK = 200
_SHOWN_BYTES = 200
#: OpenAI's clients send a key; a proxy may want it, the simulated engine does not look at it.
KEY = "sk-fastwrap-peers"
QUESTION = f'{{"model":"{MODEL}","messages":[{{"role":"user","content":"Say how to measure a proxy. "}}]}}'


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Running:
    """A process and its descendants.

    Args:
        name: What it is called in messages.
        launch: How it is started.
        cpus: The CPUs that it may use.
        directory: Where it runs, and where its log is.
        port: What it listens on.
    """

    def __init__(self, name: str, launch: Launch, cpus: tuple[int, ...], directory: Path, port: int) -> None:
        self.name, self.port = name, port
        self.log = directory / "log"
        keep = {key: value for key, value in os.environ.items() if not key.startswith("FASTWRAP_")}
        command = ("taskset", "--cpu-list", ",".join(map(str, cpus)), *launch.command)
        try:
            with self.log.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 (the harness's own words)
                    command,
                    cwd=directory,
                    env={**keep, "NO_PROXY": "127.0.0.1", **launch.env},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise UnavailableError(f"{name} cannot be started: {error}") from error

    @property
    def pid(self) -> int:
        """The process's number: ``taskset`` has become what it started."""
        return self._process.pid

    @property
    def url(self) -> str:
        """Where it serves."""
        return f"http://127.0.0.1:{self.port}"

    def wait_until(self, serves: Callable[[int], str | None]) -> None:
        """Wait until it serves.

        Args:
            serves: Says what is still amiss with what listens on a port, or None.

        Raises:
            UnavailableError: If it ended, or took too long.
        """
        deadline = time.monotonic() + LONGEST_START_SECONDS
        while (problem := serves(self.port)) is not None:
            status = self._process.poll()
            if status is not None:
                raise UnavailableError(f"ended with status {status} instead of serving: see {self.log}")
            if time.monotonic() > deadline:
                raise UnavailableError(f"does not serve: {problem}; see {self.log}")
            time.sleep(_PAUSE_SECONDS)

    def stop(self) -> None:
        """End the whole group, gently, then not."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LONGEST_STOP_SECONDS)


def listens(port: int) -> str | None:
    """Whether somebody accepts connections."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return None
    except OSError as error:
        return str(error)


def answers(port: int) -> str | None:
    """Whether a chat completion gets a whole answer; routers accept connections long before."""
    try:
        status, body = ask(port, QUESTION)
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}: {error}"
    return None if status == _OK else f"status {status}: {body[:_SHOWN_BYTES].decode(errors='replace')}"


def ask(port: int, body: str) -> tuple[int, bytes]:
    """Ask for a chat completion; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST_ANSWER_SECONDS)
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    with contextlib.closing(connection):
        connection.request("POST", "/v1/chat/completions", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
