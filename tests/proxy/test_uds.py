"""Behind a Unix-domain socket: the same service, and the life of the socket's file."""

from __future__ import annotations

import re
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.client import ask, post, stream, stream_open
from proxy.conftest import STACKS, Serve
from proxy.processes import COMMAND, DEADLINE_S, Proxy, until
from proxy.scripted import DONE, Endless, ScriptedEngine, Turn, delta
from proxy.test_processes import alive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fastwrap.sock"


@pytest.fixture
def behind(serve: Serve, engine: ScriptedEngine, path: Path) -> Callable[..., Proxy]:
    """Starts a `fastwrap serve` that listens at `path`."""
    return lambda *options: serve(engine.url, "--backend", "vllm", "--uds", str(path), *options)


def test_it_serves_there_as_it_does_at_a_port(behind: Callable[..., Proxy], path: Path) -> None:
    proxy = behind()
    assert proxy.url == f"unix:{path}"
    with proxy.counts("complete", requests=2):
        assert "performance" in post(proxy.url).json
        streamed = stream(proxy.url)
    assert streamed.events[-1] == "[DONE]"
    assert "performance" in streamed.events[-2]
    assert ask(proxy.url, "GET", "/-/ready").status in (200, 503)
    assert ask(proxy.url, "GET", "/-/none").status == 404


def test_workers_share_it(behind: Callable[..., Proxy]) -> None:
    proxy = behind("--workers", "2")
    total = 40
    with ThreadPoolExecutor(8) as pool, proxy.counts("complete", requests=total):
        answers = list(pool.map(lambda _: stream(proxy.url), range(total)))
    assert all(answer.events[-1] == "[DONE]" for answer in answers)


def test_a_departure_reaches_the_engine(behind: Callable[..., Proxy], engine: ScriptedEngine) -> None:
    engine.use(endless := Endless())
    proxy = behind()
    with proxy.counts("cancelled"):
        call = stream_open(proxy.url)
        call.read_until(b'"a"')
        call.leave()
        assert endless.closed.wait(DEADLINE_S)


def test_the_umask_says_who_may_connect(behind: Callable[..., Proxy], path: Path) -> None:
    before = path.with_name("as-the-umask-says")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(before))
    behind()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(before.stat().st_mode)


def test_its_file_is_gone_while_requests_in_flight_end(
    behind: Callable[..., Proxy], engine: ScriptedEngine, path: Path
) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    proxy = behind("--grace", "5")
    call = stream_open(proxy.url)
    call.read_until(b'"a"')
    proxy.process.send_signal(signal.SIGTERM)
    until(lambda: not path.exists(), "the file is gone")
    path.touch()  # a successor's, which is none of its business
    gate.set()
    assert call.answer().events[-1] == "[DONE]"
    assert proxy.process.wait(DEADLINE_S) == 0
    assert path.exists()


def test_the_file_of_a_dead_server_is_replaced(behind: Callable[..., Proxy], path: Path) -> None:
    killed = behind()
    pids = killed.pids
    killed.process.kill()
    killed.process.wait(DEADLINE_S)
    until(lambda: not any(alive(pid) for pid in pids), "all processes have ended")
    assert path.is_socket()
    proxy = behind()
    assert post(proxy.url).status == 200
    proxy.stop()
    assert not path.exists()


def refusal(stack: str, path: Path) -> str:
    """What `fastwrap serve` says when it cannot listen there."""
    command = [COMMAND, "serve", "--upstream", "http://127.0.0.1:1", *STACKS[stack], "--uds", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    return re.sub(r"\s+", " ", done.stderr).strip()


def test_a_living_server_is_left_alone(behind: Callable[..., Proxy], stack: str, path: Path) -> None:
    proxy = behind()
    hint = "is taken: stop what listens there, or choose another one with --uds"
    assert refusal(stack, path) == f"Error: {path} {hint}"
    assert post(proxy.url).status == 200


def test_what_is_no_socket_is_left_alone(stack: str, path: Path) -> None:
    path.write_text("precious")
    assert refusal(stack, path) == f"Error: {path} is there and is no socket: choose another one with --uds"
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_used_is_said(stack: str, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "fastwrap.sock"
    assert refusal(stack, missing) == f"Error: {missing} cannot be listened on: No such file or directory"
    assert "path too long" in refusal(stack, tmp_path / ("n" * 120))
