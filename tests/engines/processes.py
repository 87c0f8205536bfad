"""Real engines and fastwrap as processes: started on free ports, watched, and stopped with their children."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import fastwrap as fastwrap_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

STOP_WITHIN_S = 8.0  # SGLang drains for about 12 s: nobody waits for what it would still send
POLL_S = 0.1
NOT_INSTALLED = 3  # serve.sh exits so
LOG_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What the tests know of an engine.

    Attributes:
        name: As serve.sh and fastwrap call it.
        health: The route to poll until it serves.
        ready_within_s: For its start, on a slow machine.
        has: What it can do of what some engines cannot: tools, messages, embeddings, many (``n`` > 1), middleware.
        options: For its server.
        model: What requests call it; None if serve.sh says.
        merges: How many tokens a chunk holds depends on timing.
        running: Its gauge of requests that it generates for.
        gauges: Which of its gauges the block has.
        generated: Its counter of generated tokens.
        many_temperature: The temperature at which it accepts ``n`` > 1.
    """

    name: str
    health: str
    ready_within_s: float
    has: frozenset[str]
    options: tuple[str, ...] = ()
    model: str | None = "tiny"
    merges: bool = False
    running: str | None = None
    gauges: frozenset[str] = frozenset()
    generated: str | None = None
    many_temperature: float = 0.0


KINDS = (
    Kind(name="transformers", health="/health", ready_within_s=90, has=frozenset({"tools"}), model=None),
    Kind(
        name="llamacpp",
        health="/health",
        ready_within_s=30,
        has=frozenset({"tools", "messages", "many"}),
        options=("--context-shift",),  # without it a slot's context is full after some milliseconds
        running="llamacpp:requests_processing",
        gauges=frozenset({"running", "waiting"}),
        generated="llamacpp:tokens_predicted_total",
    ),
    Kind(
        name="vllm",
        health="/health",
        ready_within_s=120,
        has=frozenset({"tools", "messages", "many", "middleware"}),
        options=("--enable-per-request-metrics", "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        merges=True,
        running="vllm:num_requests_running",
        gauges=frozenset({"kv_cache_usage", "running", "waiting"}),
        generated="vllm:generation_tokens_total",
        many_temperature=1.0,
    ),
    Kind(name="ollama", health="/api/version", ready_within_s=60, has=frozenset({"messages", "embeddings"})),
    Kind(
        name="sglang",
        health="/ready",
        ready_within_s=180,
        has=frozenset({"tools", "messages", "many"}),
        options=("--decode-log-interval", "1"),  # its gauges are renewed with every line of that log
        merges=True,
        running="sglang:num_running_reqs",
        gauges=frozenset({"kv_cache_usage", "running", "waiting"}),
        generated="sglang:generation_tokens_total",
    ),
)


class NotInstalledError(Exception):
    """serve.sh has said which command installs the engine."""


class Running:
    """A process of a group of its own, and its log."""

    def __init__(self, command: Sequence[str], log: Path, modules: Path | None = None) -> None:
        self.log = log
        env = {**os.environ, "PYTHONPATH": str(modules)} if modules else None
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                start_new_session=True,
            )

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def until(self, happened: Callable[[], T | None], within_s: float) -> T:
        """Ask again and again until there is an answer; fail if the process ends, or too much time passes."""
        deadline = time.monotonic() + within_s
        while (found := happened()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                code = self._process.wait(POLL_S)
                if code == NOT_INSTALLED:
                    raise NotInstalledError(self.text().strip())
                raise AssertionError(f"exit {code}: {self.text()[-LOG_CHARACTERS:]}")
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {within_s} s: {self.text()[-LOG_CHARACTERS:]}")
        return found

    def stop(self) -> None:
        """End the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WITHIN_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@dataclass(frozen=True)
class Site:
    """A running engine, and fastwrap in front of it, once for each way.

    Attributes:
        kind: The engine.
        engine: Its process.
        direct: Its URL.
        through: fastwrap's URL, by way.
        model: What requests call the model.
    """

    kind: Kind
    engine: Running
    direct: str
    through: dict[str, str]
    model: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _answers(port: int, path: str) -> bool | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK or None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _match(running: Running, pattern: str) -> str | None:
    found = re.search(pattern, running.text(), re.MULTILINE)
    return found and found[1]


def _modules(folder: Path) -> Path:
    """A folder with fastwrap and these tests, for the Python of an engine, which has neither."""
    found = folder / "modules"
    found.mkdir()
    (found / "fastwrap").symlink_to(Path(fastwrap_package.__file__).parent)
    (found / "engines").symlink_to(Path(__file__).parent)
    return found


@contextlib.contextmanager
def engine(kind: Kind, folder: Path, logs: Path) -> Iterator[tuple[Running, str, str]]:
    """Start an engine; yields its process, its URL and its model's name.

    Raises:
        NotInstalledError: If it is not installed; says how to.
    """
    port = free_port()
    command = [str(folder / "serve.sh"), kind.name, str(port), *kind.options]
    modules = None
    if "middleware" in kind.has:
        modules = _modules(logs)
        command += ["--middleware", "engines.inside.Beside"]
    running = Running(command, logs / f"{kind.name}.log", modules)
    try:
        running.until(lambda: _answers(port, kind.health), kind.ready_within_s)
        model = kind.model or running.until(lambda: _match(running, r"^model: (\S+)$"), POLL_S)
        yield running, f"http://127.0.0.1:{port}", model
    finally:
        running.stop()


@contextlib.contextmanager
def fastwrap(upstream: str, options: Sequence[str], log: Path) -> Iterator[str]:
    """Start fastwrap in front of an engine, with its defaults but for some options; yields its URL."""
    command = Path(sys.executable).with_name("fastwrap")
    running = Running([str(command), "serve", "--upstream", upstream, "--port", "0", *options], log)
    try:
        url = running.until(lambda: _match(running, r"^fastwrap on (http://\S+) -> "), 20)
        running.until(lambda: _answers(int(url.rpartition(":")[2]), "/-/healthy"), 20)
        yield url
    finally:
        running.stop()
