"""The memory of the engine's own processes in the block, and why there is none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastwrap import processes
from proxy.blocks import block_of
from proxy.client import ask, post, stream_open
from proxy.conftest import STACKS, Serve
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import ScriptedEngine

GROWN_BYTES = 64 << 20
GROWN_MB = 64
#: What else an engine of a few megabytes takes meanwhile.
NOISE_MB = 8


class Growing:
    """A running `growing.py`."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).with_name("growing.py")), str(GROWN_BYTES)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert self.process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def shrink(self) -> None:
        assert ask(self.url, "GET", "/shrink").status == 200

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def growing() -> Iterator[Growing]:
    engine = Growing()
    yield engine
    engine.stop()


def resident_mb(proxy: Proxy) -> float:
    """What fastwrap saw last; NaN if it has not."""
    return proxy.scrape().get(("fastwrap_engine_resident_memory_bytes",), float("nan")) / 2**20


@pytest.mark.parametrize("workers", ["1", "4"])
def test_a_child_that_grows_during_a_request_is_seen(serve: Serve, growing: Growing, workers: str) -> None:
    proxy = serve(growing.url, "--backend", "vllm", "--workers", workers)
    until(lambda: resident_mb(proxy) > 0, "a first sample")
    before_mb = resident_mb(proxy)
    call = stream_open(proxy.url)
    call.read_until(b"grown")
    until(lambda: resident_mb(proxy) > before_mb + GROWN_MB - NOISE_MB, "the child has grown")
    growing.shrink()
    memory = block_of(call.answer())["host_memory"]
    assert memory["rss_start_mb"] == pytest.approx(before_mb, abs=NOISE_MB)
    assert memory["rss_peak_mb"] == pytest.approx(before_mb + GROWN_MB, abs=NOISE_MB)
    assert memory["rss_delta_mb"] == pytest.approx(memory["rss_end_mb"] - memory["rss_start_mb"], abs=0.001)
    assert memory["rss_peak_mb"] >= memory["rss_end_mb"]
    assert memory["processes"] == 2
    assert memory["samples"] >= 1
    until(lambda: resident_mb(proxy) < before_mb + NOISE_MB, "also when the request has ended")


def test_an_engine_that_is_started_again_is_found(growing: Growing, serve_once: Serve) -> None:
    proxy = serve_once(growing.url)
    until(lambda: resident_mb(proxy) > 0, "a first sample")
    growing.stop()
    until(lambda: not resident_mb(proxy) > 0, "it is gone")
    with socket.create_server(("127.0.0.1", int(growing.url.rpartition(":")[2]))):  # this process, at its place
        until(lambda: resident_mb(proxy) > 0, "it is there again")


@pytest.mark.parametrize(
    ("upstream", "reason"),
    [("http://192.0.2.1:80", "engine_remote"), ("http://127.0.0.1:1", "process_not_found")],  # RFC 5737: nobody's
)
def test_why_there_is_none(serve_once: Serve, upstream: str, reason: str) -> None:
    proxy = serve_once(upstream, "--connect-timeout", "0.2")
    until(lambda: f"is not read: {reason}" in proxy.log, reason)
    assert ("fastwrap_engine_resident_memory_bytes",) not in proxy.scrape()
    refused = post(proxy.url)
    assert refused.status in (502, 504)


def test_the_reason_stands_in_the_block(serve_once: Serve, engine: ScriptedEngine) -> None:
    proxy = serve_once(engine.url, "--engine-samples", "off")
    block = block_of(post(proxy.url))
    assert block["host_memory"] is None
    assert block["unavailable"]["host_memory"] == "disabled"


@pytest.fixture
def serve_once() -> Iterator[Serve]:
    """Starts a `fastwrap serve` on one server only: what it sees does not depend on it."""
    with ExitStack() as cleanup:

        def start(upstream: str, *options: str) -> Proxy:
            proxy = Proxy(upstream, *STACKS["native"], "--backend", "vllm", *options)
            cleanup.callback(proxy.stop)
            return proxy

        yield start


def test_the_tree_is_the_listener_and_its_descendants(growing: Growing) -> None:
    children = Path(f"/proc/{growing.process.pid}/task/{growing.process.pid}/children").read_text().split()
    tree = frozenset([growing.process.pid, *map(int, children)])
    assert len(tree) == 2
    port = growing.url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost"):
        assert processes.engine_processes(f"http://{host}:{port}") == tree


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "::1"])  # noqa: S104 (for a moment)
def test_wherever_it_listens_on_this_machine(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        host = "[::1]" if ":" in address else "127.0.0.1"
        found = processes.engine_processes(f"http://{host}:{listener.getsockname()[1]}")
    assert os.getpid() in found


def test_on_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert os.getpid() in processes.engine_processes(f"unix:{path}")


@pytest.mark.parametrize(
    ("upstream", "reason"),
    [
        ("http://192.0.2.1:80", "engine_remote"),
        ("http://127.0.0.1:1", "process_not_found"),
        ("unix:/no/such/engine.sock", "process_not_found"),
    ],
)
def test_why_it_is_not_found(upstream: str, reason: str) -> None:
    with pytest.raises(processes.ProcessesError) as raised:
        processes.engine_processes(upstream)
    assert raised.value.reason == reason
