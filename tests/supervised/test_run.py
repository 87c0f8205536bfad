"""The life of an engine under `fastwrap run`: it gets ready, answers, and ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

import pytest

from proxy.client import ask, post, stream_open
from proxy.processes import COMMAND, DEADLINE_S, Run, until
from supervised.conftest import Finish, Start, alive


def is_ready(running: Run) -> bool:
    return ask(running.url, "GET", "/-/ready").status == 200


def ends(running: Run, number: int = signal.SIGTERM) -> int:
    """Send a signal; return the exit code. No process is left."""
    pids = running.pids
    running.process.send_signal(number)
    code = running.process.wait(DEADLINE_S)
    until(lambda: not any(map(alive, pids)), "all processes have ended")
    return code


def when(file: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """The command that waits for a file first."""
    return ("sh", "-c", f"while [ ! -e {file} ]; do sleep 0.05; done; exec {shlex.join(command)}")


def test_requests_are_refused_until_the_engine_is_ready(
    start: Start, engine: tuple[str, ...], upstream: tuple[str, ...], tmp_path: Path
) -> None:
    running = start(when(tmp_path / "go", engine), *upstream)
    answer = post(running.url)
    assert (answer.status, answer.error["code"], answer.header("retry-after")) == (503, "engine_starting", "5")
    assert ask(running.url, "GET", "/-/healthy").status == 200
    ready = ask(running.url, "GET", "/-/ready")
    assert (ready.status, ready.json["status"]) == (503, "starting")
    (tmp_path / "go").touch()
    until(lambda: is_ready(running), "the engine is ready")
    assert post(running.url).json["performance"]["outcome"] == "complete"
    assert "fastwrap: the engine is ready after" in running.log
    assert ends(running) == 0


def test_all_workers_know_when_the_engine_is_ready(
    start: Start, engine: tuple[str, ...], upstream: tuple[str, ...], tmp_path: Path
) -> None:
    running = start(when(tmp_path / "go", engine), *upstream, "--workers", "2")
    assert {post(running.url).status for _ in range(20)} == {503}
    (tmp_path / "go").touch()
    until(lambda: is_ready(running), "the engine is ready")
    assert {post(running.url).status for _ in range(20)} == {200}


def test_requests_in_flight_end_before_the_engine_does(start: Start, engine: tuple[str, ...]) -> None:
    running = start((*engine, "--tokens", "10", "--itl-ms", "100"), "--grace", "20")
    until(lambda: is_ready(running), "the engine is ready")
    call = stream_open(running.url)
    call.read_until(b'"content"')
    running.process.send_signal(signal.SIGTERM)
    assert call.answer().events[-1] == "[DONE]"
    assert running.process.wait(DEADLINE_S) == 0


@pytest.mark.parametrize(
    ("script", "code"), [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", 137), ("exec /none", 127), ("exec /", 126)]
)
def test_the_exit_code_is_the_engines(
    finish: Finish, server: str, upstream: tuple[str, ...], script: str, code: int
) -> None:
    done = finish(("sh", "-c", script), *upstream, "--server", server)
    assert (done.returncode, done.stdout) == (code, "")
    assert f"fastwrap: the engine ended with {code}" in done.stderr


@pytest.mark.parametrize(("command", "code"), [("/none", 127), ("/", 126)])
def test_a_command_that_cannot_be_executed_is_said(
    finish: Finish, upstream: tuple[str, ...], command: str, code: int
) -> None:
    done = finish((command,), *upstream)
    assert done.returncode == code
    assert f"engine | {command}: " in done.stderr


def test_an_engine_that_does_not_get_ready_is_ended(finish: Finish, upstream: tuple[str, ...]) -> None:
    done = finish(("sleep", "1000"), *upstream, "--start-timeout", "0.5")
    assert done.returncode == 143
    assert "not ready in 0.5 s (--start-timeout)" in done.stderr
    done = finish(("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"), *upstream, "--start-timeout", "0.5")
    assert done.returncode == 1, "it is a failure, however the engine ends"


def test_its_options_may_stand_in_a_file(finish: Finish, upstream: tuple[str, ...], tmp_path: Path) -> None:
    config = tmp_path / "fastwrap.toml"
    config.write_text(f'start_timeout = 0.5\nengine_log = "{tmp_path}/log"\nmax_inflight = 7\n')
    done = finish(("sh", "-c", "echo out; exec sleep 1000"), *upstream, "--config", str(config))
    assert "not ready in 0.5 s" in done.stderr
    assert (tmp_path / "log").read_text() == "out\n"


def test_it_says_what_it_waits_for(start: Start, upstream: tuple[str, ...]) -> None:
    running = start(("sleep", "1000"), *upstream)
    until(lambda: f"waiting for openai at {upstream[1]}: 10 s (engine_unreachable)" in running.log, "10 s have passed")


def test_an_engine_lives_on_when_nobody_reads_its_output(upstream: tuple[str, ...], tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    script = f"while :; do echo line; echo line >&2; : > {mark}; sleep 0.01; done"
    command = [COMMAND, "run", "--gpu", "off", "--server", "native", "--port", "0", *upstream, "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert any(b"engine | line" in line for line in process.stdout)
        process.stdout.close()
        for _ in range(20):
            mark.unlink(missing_ok=True)
            until(mark.exists, "the engine goes on")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 143


def test_an_engine_that_dies_ends_fastwrap(start: Start, engine: tuple[str, ...]) -> None:
    running = start(engine)
    until(lambda: is_ready(running), "the engine is ready")
    pids = running.pids
    os.kill(engine_of(running), signal.SIGKILL)
    assert running.process.wait(DEADLINE_S) == 137
    until(lambda: not any(map(alive, pids)), "all processes have ended")


def engine_of(running: Run) -> int:
    """The simulated engine's own process."""
    [pid] = [one for one in running.pids if command_of(one)[1:3] == ["-I", "-S"]]
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def test_an_engine_that_dies_is_started_again(start: Start, engine: tuple[str, ...]) -> None:
    running = start(engine, "--restart", "on-failure")
    until(lambda: is_ready(running), "the engine is ready")
    dead = engine_of(running)
    os.kill(dead, signal.SIGKILL)
    until(lambda: post(running.url).status == 503, "the gate is shut")
    until(lambda: is_ready(running), "the engine is ready again")
    assert post(running.url).status == 200
    assert engine_of(running) != dead
    assert ends(running) == 0


def test_one_that_fails_at_once_is_started_ever_later(start: Start, upstream: tuple[str, ...]) -> None:
    running = start(("sh", "-c", "exit 3"), *upstream, "--restart", "on-failure")
    until(lambda: "started again in 2 s" in running.log, "the second failure")
    assert post(running.url).error["code"] == "engine_starting"
    assert ends(running) == 3


def test_one_that_ends_well_is_not_started_again(finish: Finish, upstream: tuple[str, ...]) -> None:
    assert finish(("true",), *upstream, "--restart", "on-failure").returncode == 0


def test_an_engine_that_ignores_signals_is_killed(start: Start, upstream: tuple[str, ...]) -> None:
    script = "trap '' TERM INT; echo started; while :; do sleep 1; done"
    running = start(("sh", "-c", script), *upstream, "--stop-timeout", "0.5")
    until(lambda: "engine | started" in running.log, "the engine runs")
    assert ends(running) == 137


def test_a_second_interrupt_ends_all_at_once(start: Start, engine: tuple[str, ...]) -> None:
    running = start((*engine, "--tokens", "10000", "--itl-ms", "50"), "--grace", "1000")
    until(lambda: is_ready(running), "the engine is ready")
    call = stream_open(running.url)
    call.read_until(b'"content"')
    running.process.send_signal(signal.SIGINT)
    until(lambda: refuses(running), "the proxy drains")
    assert ends(running, signal.SIGINT) == 137
    assert not call.answer().whole


def refuses(running: Run) -> bool:
    try:
        ask(running.url, "GET", "/-/healthy")
    except OSError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_the_engine_gets_the_signal_that_was_sent(
    start: Start, upstream: tuple[str, ...], number: signal.Signals
) -> None:
    script = f"trap 'echo got; exit 7' {number.name.removeprefix('SIG')}; echo started; while :; do sleep 0.05; done"
    running = start(("sh", "-c", script), *upstream)
    until(lambda: "engine | started" in running.log, "the engine runs")
    assert ends(running, number) == 7
    assert "engine | got" in running.log


def test_the_engines_own_processes_do_not_get_it(start: Start, upstream: tuple[str, ...]) -> None:
    """SGLang takes the death of one for a crash, and kills itself."""
    trap = "trap 'kill -USR1 $!; wait $!; echo child $?; exit 7' TERM"
    script = f"{trap}; sleep 1000 & echo started; while :; do sleep 0.05; done"
    running = start(("sh", "-c", script), *upstream)
    until(lambda: "engine | started" in running.log, "the engine runs")
    assert ends(running) == 7
    assert f"engine | child {128 + signal.SIGUSR1}" in running.log


def test_its_output_is_passed_on_line_by_line(finish: Finish, upstream: tuple[str, ...]) -> None:
    done = finish(("sh", "-c", r"printf 'out\nrest'; printf '10 %%\r20 %%\nany byte \377\n' >&2"), *upstream)
    assert done.stdout == "engine | out\nengine | rest\n"
    lines = [line for line in done.stderr.splitlines() if line.startswith("engine | ")]
    assert lines == ["engine | 10 %", "engine | 20 %", "engine | any byte \u00ff"]


def test_its_output_may_go_to_a_file(finish: Finish, upstream: tuple[str, ...], tmp_path: Path) -> None:
    log = tmp_path / "engine.log"
    for _ in range(2):
        assert "engine |" not in finish(("sh", "-c", "echo out; echo err >&2"), *upstream, "--engine-log", log).stderr
    assert log.read_text() == 2 * "out\nerr\n"
    done = finish(("true",), *upstream, "--engine-log", str(tmp_path / "none" / "log"))
    assert (done.returncode, "choose another --engine-log" in done.stderr) == (1, True)


def test_its_memory_is_that_of_all_that_it_started(
    start: Start, upstream: tuple[str, ...], engine: tuple[str, ...]
) -> None:
    running = start(("sh", "-c", f"sleep 1000 & {shlex.join(engine)}; exit 0"), *upstream)
    until(lambda: is_ready(running), "the engine is ready")
    found: list[int] = []

    def counted() -> bool:
        memory = post(running.url).json["performance"]["host_memory"]
        found[:] = [memory["processes"]] if memory else []
        return bool(found)

    until(counted, "the memory is sampled")
    assert found == [3], "the shell, sleep and the engine; who listens is one of them only"
