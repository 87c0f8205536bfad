"""Whatever ends `fastwrap run`, or a part of it: nothing that the engine has started is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from proxy.client import ask
from proxy.processes import COMMAND, DEADLINE_S, Run, until
from supervised.conftest import Family, Finish, Start, alive


def holder_of(running: Run) -> int:
    [pid] = [one for one in running.pids if "holder.py" in Path(f"/proc/{one}/cmdline").read_text()]
    return pid


def proxy_of(running: Run) -> int:
    [pid] = {*children_of(running.process.pid)} - {holder_of(running)}
    return pid


def children_of(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def running(start: Start, family: Family, upstream: tuple[str, ...]) -> Run:
    """Before an engine that heeds no signal, and whose children are in its group and in one of their own."""
    found = start(("sh", "-c", f"trap '' TERM; {family.script} wait"), *upstream, "--stop-timeout", "0.5")
    until(lambda: len(family.pids) == 2, "the engine's children run")
    return found


def all_end(running: Run, family: Family) -> int:
    """Wait until nothing is left; return the exit code."""
    pids = [*running.pids, *family.pids]
    code = running.process.wait(DEADLINE_S)
    until(lambda: not any(map(alive, pids)), "all processes have ended")
    return code


def test_told_to_end(running: Run, family: Family) -> None:
    running.process.send_signal(signal.SIGTERM)
    assert all_end(running, family) == 137


def test_fastwrap_is_killed(running: Run, family: Family) -> None:
    pids = [*running.pids, *family.pids]
    running.process.kill()
    running.process.wait(DEADLINE_S)
    until(lambda: not any(map(alive, pids)), "all processes have ended")


def test_the_proxy_is_killed(running: Run, family: Family) -> None:
    os.kill(proxy_of(running), signal.SIGKILL)
    assert all_end(running, family) == 137
    assert "fastwrap: the proxy has died" in running.log


def test_the_holder_is_killed(running: Run, family: Family) -> None:
    os.kill(holder_of(running), signal.SIGKILL)
    assert all_end(running, family) == 137


def test_all_of_fastwrap_is_killed_at_once(start: Start, upstream: tuple[str, ...]) -> None:
    """The kernel ends the engine then."""
    running = start(("sleep", "1000"), *upstream)
    until(lambda: any("sleep" in Path(f"/proc/{one}/comm").read_text() for one in running.pids), "the engine runs")
    pids = running.pids
    ours = holder_of(running), proxy_of(running), running.process.pid
    for pid in ours:
        os.kill(pid, signal.SIGKILL)
    running.process.wait(DEADLINE_S)
    until(lambda: not any(map(alive, pids)), "all processes have ended")


def test_the_engine_ends_and_leaves_its_children(start: Start, family: Family, upstream: tuple[str, ...]) -> None:
    running = start(("sh", "-c", f"trap 'exit 0' USR1; {family.script} while :; do sleep 0.05; done"), *upstream)
    until(lambda: len(family.pids) == 2, "the engine's children run")
    running.process.send_signal(signal.SIGUSR1)
    assert all_end(running, family) == 0


def test_a_proxy_that_dies_is_a_failure_though_the_engine_ends_well(start: Start, upstream: tuple[str, ...]) -> None:
    running = start(("sh", "-c", "trap 'exit 0' TERM; echo started; while :; do sleep 0.05; done"), *upstream)
    until(lambda: "engine | started" in running.log, "the engine runs")
    os.kill(proxy_of(running), signal.SIGKILL)
    assert running.process.wait(DEADLINE_S) == 1


def test_orphans_are_reaped(start: Start, upstream: tuple[str, ...], tmp_path: Path) -> None:
    """Of a process that ends before its children, whoever holds the engine is the heir."""
    orphan = tmp_path / "orphan"
    script = f"(sh -c 'echo $$ > {orphan}; sleep 0.2' &); echo started; exec sleep 1000"
    running = start(("sh", "-c", script), *upstream)
    until(lambda: orphan.exists() and orphan.read_text().strip(), "the orphan runs")
    pid = orphan.read_text().strip()
    until(lambda: not Path(f"/proc/{pid}").exists(), "it is no zombie")
    assert running.process.poll() is None


@pytest.fixture
def taken(port: int) -> socket.socket:
    """A port on which somebody listens."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", port))
    listener.listen()
    return listener


@pytest.mark.parametrize("whose", ["engine", "fastwrap"])
def test_where_somebody_listens_no_engine_is_started(
    finish: Finish, server: str, taken: socket.socket, tmp_path: Path, whose: str
) -> None:
    port = str(taken.getsockname()[1])
    place = ("--upstream", f"http://127.0.0.1:{port}") if whose == "engine" else ("--port", port)
    other = ("--upstream", "http://127.0.0.1:1") if whose == "fastwrap" else ()
    started = tmp_path / "started"
    done = finish(("touch", str(started)), "--server", server, *place, *other)
    assert done.returncode == 1
    assert f"127.0.0.1:{port} is taken: stop what listens there" in " ".join(done.stderr.split())
    assert not started.exists()
    taken.close()


def test_engine_and_fastwrap_need_two_ports(finish: Finish) -> None:
    done = finish(("llama-server", "-m", "m.gguf"), "--port", "8080")
    assert done.returncode == 1
    assert "both the engine and fastwrap would listen on http://127.0.0.1:8080" in " ".join(done.stderr.split())


@pytest.fixture
def namespace() -> tuple[str, ...]:
    """What starts a command as the first process of a container."""
    namespace = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child")
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("no PID namespaces here")
    return namespace


def test_the_first_process_heeds_sigterm_while_it_is_still_imported(namespace: tuple[str, ...], tmp_path: Path) -> None:
    """The kernel would not end it, as it does others that handle no signal."""
    (tmp_path / "click.py").write_text("import signal\nprint('here', flush=True)\nsignal.pause()\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    command = [*namespace, COMMAND, "run", "--", "true"]
    with subprocess.Popen(command, start_new_session=True, env=environment, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"here\n"
            [first] = children_of(process.pid)
            os.kill(first, signal.SIGTERM)
            assert process.wait(DEADLINE_S) == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.parametrize("code", [0, 3])
def test_as_the_first_process_of_a_container(
    server: str, upstream: tuple[str, ...], namespace: tuple[str, ...], tmp_path: Path, code: int
) -> None:
    """The kernel kills all of a PID namespace when its first process ends, and gives it all orphans."""
    socket_path, orphan = tmp_path / "s", tmp_path / "orphan"
    orphans = f"setsid sh -c 'sleep 0.1; touch {orphan}' & "
    script = f"{orphans} trap 'exit {code}' TERM; while :; do sleep 0.05; done"
    options = ("--server", server, "--gpu", "off", "--uds", str(socket_path), *upstream)
    command = [*namespace, COMMAND, "run", *options, "--", "sh", "-c", script]
    with subprocess.Popen(command, start_new_session=True) as process:
        try:
            until(lambda: serves(f"unix:{socket_path}") and orphan.exists(), "it serves")
            [first] = children_of(process.pid)
            os.kill(first, signal.SIGTERM)
            assert process.wait(DEADLINE_S) == code
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def serves(url: str) -> bool:
    try:
        return ask(url, "GET", "/-/healthy").status == 200
    except OSError:
        return False
