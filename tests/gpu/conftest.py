"""The fake NVML library, compiled once, and a log that records: the real nvidia-ml-py runs without a GPU."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fastwrap import gpu
from fastwrap.gpu.readings import KINDS

SONAME = "libnvidia-ml.so.1"
SOURCE = Path(__file__).with_name("fake_nvml.c")
DEADLINE_S = 20.0  # a failing test ends; a passing one never waits for it


class RecordingLog:
    """A `gpu.log.GpuLog` that keeps what it is told, and the test's end of it: begin_request(), until()."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.board: Path | None = None
        self.uuids: list[str] | None = None
        #: Rounds of each kind.
        self.rounds: dict[str, list[tuple[int, list[list[int | str]]]]] = {kind: [] for kind in KINDS}
        #: Memory in use, of the rounds in which all devices told it.
        self.pushes: list[tuple[int, list[int]]] = []
        self.reasons: list[str] = []
        self.active = 0
        self.edges = 0
        self.edges_seen = 0
        self._idle = True

    def share(self, path: Path | None = None) -> None:
        self.board = path

    def begin(self) -> None:
        self.reasons.clear()

    def devices(self, uuids: Sequence[str]) -> None:
        with self.changed:
            self.uuids = list(uuids)
            self.changed.notify_all()

    def push(self, kind: str, at_ns: int, rows: Sequence[Sequence[int | str]]) -> None:
        with self.changed:
            assert self.uuids is not None
            assert len(rows) == len(self.uuids)
            self.rounds[kind].append((at_ns, [list(row) for row in rows]))
            used = [row[0] for row in rows if isinstance(row[0], int)]
            if kind == "memory" and len(used) == len(rows):
                self.pushes.append((at_ns, used))
            if kind == "power":
                self._idle = self.active == 0
            self.changed.notify_all()

    def failed(self, reason: str) -> None:
        with self.changed:
            self.reasons.append(reason)
            self.changed.notify_all()

    unavailable = failed

    def catch_up(self) -> str | None:
        return self.reasons[-1] if self.reasons else None

    def forget_dead(self) -> None:
        pass

    def wait(self, timeout_ns: int) -> bool:
        with self.changed:
            edge = self.changed.wait_for(lambda: self.edges != self.edges_seen, timeout_ns / 1e9)
            self.edges_seen = self.edges
            return edge

    def wake(self) -> None:
        self._edge(0)

    def in_flight(self) -> int:
        return self.active

    def was_idle(self) -> bool:
        return self._idle

    def begin_request(self) -> int:
        return self._edge(+1)

    def end_request(self) -> int:
        return self._edge(-1)

    def _edge(self, change: int) -> int:
        with self.changed:
            self.active += change
            self.edges += 1
            self.changed.notify_all()
            return time.monotonic_ns()

    def until(self, happened: Callable[[], object], within_s: float = DEADLINE_S) -> None:
        with self.changed:
            assert self.changed.wait_for(happened, within_s), f"not within {within_s} s: {self.uuids} {self.reasons}"

    def until_pushes(self, count: int) -> list[tuple[int, list[int]]]:
        self.until(lambda: len(self.pushes) >= count or self.reasons)
        assert len(self.pushes) >= count, self.reasons
        return self.pushes[:count]

    def until_push_after(self, at_ns: int) -> None:
        self.until(lambda: self.pushes[-1][0] >= at_ns)

    def until_rounds(self, kind: str, count: int = 1) -> list[list[list[int | str]]]:
        self.until(lambda: len(self.rounds[kind]) >= count or self.reasons)
        assert len(self.rounds[kind]) >= count, self.reasons
        return [rows for _, rows in self.rounds[kind][:count]]

    def until_reason(self) -> str:
        self.until(lambda: self.reasons)
        return self.reasons[0]

    def gaps_ns_of(self, kind: str) -> list[int]:
        times_ns = [at_ns for at_ns, _ in self.rounds[kind]]
        return [later - earlier for earlier, later in itertools.pairwise(times_ns)]

    @property
    def gaps_ns(self) -> list[int]:
        return self.gaps_ns_of("memory")


class FakeNvml:
    """The machine that the fake library shows: lines of the language in fake_nvml.c."""

    def __init__(self, library: ctypes.CDLL, script: Path) -> None:
        self._library = library
        self.script = script

    def says(self, *lines: str) -> None:
        """Replace the whole script, at once for whoever reads it."""
        fresh = self.script.with_suffix(".new")
        fresh.write_text("\n".join(lines) + "\n")
        fresh.replace(self.script)

    def calls(self, function: str) -> int:
        """Return how often a function was called since the library was initialised."""
        return int(self._library.fake_nvml_calls(function.encode()))


def build(directory: Path, *options: str) -> Path:
    """Compile the fake library; return its path."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("the fake NVML library needs a C compiler: there is no `cc`")
    library = directory / SONAME
    command = [compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-Wl,-soname,{SONAME}", *options]
    subprocess.run([*command, "-o", str(library), str(SOURCE), "-lpthread"], check=True)
    return library


@pytest.fixture(scope="session")
def build_library() -> Callable[..., Path]:
    """`build`, for tests: nothing is imported from this file, so that any import mode of pytest will do."""
    return build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Load the fake by path: the soname then satisfies nvidia-ml-py's CDLL("libnvidia-ml.so.1")."""
    return ctypes.CDLL(str(build(tmp_path_factory.mktemp("nvml"))))


@pytest.fixture
def nvml(library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    library.fake_nvml_forget()
    fake = FakeNvml(library, tmp_path / "nvml.txt")
    fake.says("gpu GPU-aaaa 1000")
    monkeypatch.setenv("FAKE_NVML", str(fake.script))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return fake


@pytest.fixture
def log() -> RecordingLog:
    return RecordingLog()


@pytest.fixture
def start(log: RecordingLog, nvml: FakeNvml) -> Iterator[Callable[..., gpu.GpuSampler]]:
    """Start samplers that write to `log`; they are stopped after the test, released from any hang."""
    started: list[gpu.GpuSampler] = []

    def start_one(devices: str = "", processes: Callable[[], frozenset[int]] = frozenset) -> gpu.GpuSampler:
        sampler = gpu.start_sampler("auto", log, gpu.Selection(devices, "http://engine"), processes)
        assert sampler is not None
        started.append(sampler)
        return sampler

    yield start_one
    nvml.says()
    for sampler in started:
        sampler.stop(DEADLINE_S)
    assert not any(thread.name == "fastwrap-gpu" for thread in threading.enumerate())


@pytest.fixture
def clean_environment(tmp_path: Path) -> dict[str, str]:
    """The environment for another Python: no library path, no selection, a directory of its own to share."""
    dropped = {"LD_LIBRARY_PATH", "LD_PRELOAD", "CUDA_VISIBLE_DEVICES", "FAKE_NVML"}
    python_path = str(Path(gpu.__file__).parents[2])
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, "PYTHONPATH": python_path, "XDG_RUNTIME_DIR": str(tmp_path)}


_READINGS = """
import json
from fastwrap import gpu
nvml = gpu.Nvml()
readings = gpu.Readings(nvml, nvml.devices(0)[0])
print(json.dumps({kind: readings.read(kind) for kind in ("memory", "power", "utilization", "condition")}))
"""


@pytest.fixture
def readings_of() -> Callable[[dict[str, str]], object]:
    """Reads the first device once in a Python of its own, with the library that this environment finds."""

    def read(environment: dict[str, str]) -> object:
        done = subprocess.run(
            [sys.executable, "-c", _READINGS], env=environment, capture_output=True, timeout=60, check=True
        )
        found: object = json.loads(done.stdout)
        return found

    return read
