"""Starts `fastwrap serve` and `fastwrap engine` as processes, as a user would, and ends them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from proxy.client import Headers, ask

COMMAND = str(Path(sys.executable).with_name("fastwrap"))
#: A failing test ends after this; a passing one never waits for it.
DEADLINE_S = 20.0
#: Not of an engine that `fastwrap run` started.
_ADDRESS = re.compile(r"^(?!engine \|).* on ((?:https?://|unix:)\S+)")


def until(condition: Callable[[], object], what: str, seconds: float = DEADLINE_S) -> None:
    """Ask again and again until the condition holds."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        pause.wait(0.005)


class Process:
    """A running `fastwrap` command that listens."""

    def __init__(self, command: str, *arguments: str, env: Mapping[str, str] | None = None) -> None:
        place = () if "--uds" in arguments else ("--port", "0")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FASTWRAP_")}
        self.lines: list[str] = []
        self._listening = threading.Event()
        self.url = ""
        self.process = subprocess.Popen(
            [COMMAND, command, *place, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**clean, **(env or {})},
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        self._listening.wait(DEADLINE_S)
        assert self.url, f"{command} {arguments} did not start:\n{self.log}"

    @property
    def log(self) -> str:
        return "".join(self.lines)

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        found = [self.process.pid]
        for pid in found:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    found += [int(child) for child in (task / "children").read_text().split()]
        return found

    @property
    def rss_bytes(self) -> int:
        """Resident memory of all its processes together."""
        pages = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def descriptors(self) -> int:
        """Open files and sockets of all its processes together."""
        count = 0
        for pid in self.pids:
            with contextlib.suppress(OSError):
                count += len(list(Path(f"/proc/{pid}/fd").iterdir()))
        return count

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(DEADLINE_S)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if found := _ADDRESS.search(line):
                self.url = found[1]
                self._listening.set()
        self._listening.set()


class Proxy(Process):
    """A running `fastwrap serve`."""

    #: With which its metrics are asked for.
    headers: Headers = ()

    def __init__(self, upstream: str, *options: str, env: Mapping[str, str] | None = None) -> None:
        self._begin("serve", "--upstream", upstream, *options, env=env)

    def _begin(self, command: str, *arguments: str, env: Mapping[str, str] | None) -> None:
        super().__init__(command, "--gpu", "off", "--grace", "1", *arguments, env=env)
        try:
            until(self._serves, "the first answer")
        except AssertionError:
            self.stop()
            raise

    def _serves(self) -> bool:
        try:
            return ask(self.url, "GET", "/-/healthy").status == 200
        except OSError:
            assert self.process.poll() is None, self.log
            return False

    def scrape(self) -> dict[tuple[str, ...], float]:
        """All samples by name and label values, in the order of the labels' names."""
        answer = ask(self.url, "GET", "/-/metrics", self.headers)
        assert answer.status == 200
        samples: dict[tuple[str, ...], float] = {}
        for family in text_string_to_metric_families(answer.body.decode()):
            for sample in family.samples:
                labels = [value for _, value in sorted(sample.labels.items())]
                samples[(sample.name, *labels)] = sample.value
        return samples

    def outcomes(self, operation: str = "chat") -> dict[str, int]:
        """How many requests ended in which way."""
        names = ("complete", "error", "cancelled", "incomplete")
        samples = self.scrape()
        return {name: int(samples["fastwrap_requests_total", operation, name]) for name in names}

    @property
    def in_flight(self) -> int:
        return int(self.scrape()["fastwrap_requests_in_flight",])

    @contextlib.contextmanager
    def counts(self, outcome: str, operation: str = "chat", requests: int = 1) -> Iterator[None]:
        """Within it, so many requests end, all in this way; afterwards none is in flight."""
        before = self.outcomes(operation)
        yield
        wanted = {**before, outcome: before[outcome] + requests}
        until(
            lambda: self.outcomes(operation) == wanted or sum(self.outcomes(operation).values()) > sum(wanted.values()),
            f"{requests} {outcome}",
        )
        assert self.outcomes(operation) == wanted
        until(lambda: self.in_flight == 0, "nothing in flight")


class Run(Proxy):
    """A running `fastwrap run`."""

    def __init__(self, engine: Sequence[str], *options: str, env: Mapping[str, str] | None = None) -> None:
        self._begin("run", *options, "--", *engine, env=env)
