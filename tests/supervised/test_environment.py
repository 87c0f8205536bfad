"""An engine for the length of a `with` block; whatever ends it, nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

import fastwrap
from fastwrap import InferenceEnv, InferenceServerWrapper
from fastwrap.environment import ClientError
from fastwrap.service import ServiceError
from proxy.processes import DEADLINE_S, Process, until
from supervised.conftest import alive

Environment = Callable[..., InferenceEnv]
MARK = "TEST_OF_FASTWRAP"


@pytest.fixture
def environment(engine: tuple[str, ...], server: str) -> Environment:
    """Makes an environment of a simulated engine's."""
    return lambda **settings: InferenceEnv(engine=[*engine, "--tokens", "4"], server=server, gpu="off", **settings)


def marked(mark: str) -> list[int]:
    """The processes that a test has started, and those that they have."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if alive(pid)]


@pytest.fixture(autouse=True)
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """What all processes of a test have in their environment; at its end there is none of them."""
    chosen = uuid.uuid4().hex
    monkeypatch.setenv(MARK, chosen)
    yield chosen
    left = marked(chosen)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left


def test_it_starts_asks_and_ends(environment: Environment, tmp_path: Path) -> None:
    logs = [tmp_path / name for name in ("first", "second")]
    with environment(plugin=[f"fastwrap.plugins.access_log:AccessLog?path={log}" for log in logs]) as env:
        answer = env.chat("Hello")
        assert answer.text
        assert answer.performance.completion_tokens == 4
        assert answer.performance.ttft_ms is not None
        direct = env.openai().chat.completions.create(model="m", messages=[{"role": "user", "content": "x"}])
        assert direct.choices
        with pytest.raises(openai.NotFoundError):
            env.chat([{"role": "user", "content": "x"}], model="another")
        second = env.chat("Hello", max_tokens=2)
    assert second.performance.completion_tokens == 2
    assert env.records() == [answer.performance, second.performance]
    for log in logs:  # the one plugin twice
        chats = [line for line in map(json.loads, log.read_text().splitlines()) if line["method"] == "POST"]
        assert [line["completion_tokens"] for line in chats] == [4, 4, None, 2]
    with pytest.raises(ClientError, match="with block"):
        _ = env.base_url


def test_async(environment: Environment) -> None:
    async def talk() -> InferenceEnv:
        async with environment() as env:
            answers = await asyncio.gather(*(env.achat("Hello") for _ in range(4)))
            assert all(answer.text for answer in answers)
        return env

    assert len(asyncio.run(talk()).records()) == 4


def test_it_attaches_to_a_running_engine(server: str) -> None:
    process = Process("engine", "--tokens", "4")
    try:
        with InferenceServerWrapper(process.url, server=server, gpu="off") as env:
            assert env.chat("Hello").performance.completion_tokens == 4
        assert process.process.poll() is None
    finally:
        process.stop()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_passes_and_leaves_nothing(environment: Environment, error: type[BaseException]) -> None:
    with pytest.raises(error), environment():
        raise error


def test_an_engine_that_fails_is_said(server: str) -> None:
    command = ["sh", "-c", "echo no memory >&2; exit 3"]
    with (
        pytest.raises(ServiceError, match=r"(?s)has ended with 3:.*engine \| no memory"),
        InferenceEnv(engine=command, upstream="http://127.0.0.1:1", server=server, gpu="off"),
    ):
        pass


def test_an_engine_that_does_not_get_ready_is_said() -> None:
    env = InferenceEnv(engine=["sleep", "1000"], upstream="http://127.0.0.1:1", start_timeout=0.5, gpu="off")
    with pytest.raises(ServiceError, match=r"not ready after 0\.5 s"), env:
        pass


def test_a_setting_that_is_none_is_said() -> None:
    env = InferenceEnv(upstream="http://127.0.0.1:1", colour="red")
    with pytest.raises(ServiceError, match=r"No such option.*--colour"), env:
        pass
    with pytest.raises(fastwrap.SettingsError, match="name the engine"):
        InferenceEnv()


def test_an_answer_without_a_block_is_said(environment: Environment) -> None:
    with environment(enrich="none") as env, pytest.raises(ClientError, match="no performance block"):
        env.chat("Hello")


PROGRAM = """
import os, sys, fastwrap
env = fastwrap.InferenceEnv(engine=sys.argv[1:], gpu="off", server="native")
env.__enter__()
print("ready", flush=True)
if sys.stdin.readline() == "fork\\n":
    child = os.fork()
    if not child:
        sys.exit()
    os.waitpid(child, 0)
    print("forked", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("how", ["end", "interrupt", "kill", "fork"])
def test_the_end_of_the_interpreter_leaves_nothing(engine: tuple[str, ...], mark: str, how: str) -> None:
    command = [sys.executable, "-c", PROGRAM, *engine]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        started = marked(mark)
        assert len(started) > 4
        match how:
            case "interrupt":
                process.send_signal(signal.SIGINT)
            case "kill":
                process.kill()
            case "fork":
                process.stdin.write("fork\n")
                process.stdin.flush()
                assert process.stdout.readline() == "forked\n"
                assert marked(mark) == started
        process.stdin.close()
        process.wait(DEADLINE_S)
        until(lambda: not marked(mark), "all processes have ended")


def test_without_openai_it_is_said() -> None:
    program = (
        "import sys; sys.modules['openai'] = None\n"
        "from fastwrap import InferenceEnv\n"
        "env = InferenceEnv(upstream='http://127.0.0.1:1'); env._service = type('S', (), {'url': 'http://x'})\n"
        "env.chat('Hello')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False)
    assert "pip install 'fastwrap[client]'" in done.stderr


def test_importing_fastwrap_loads_nothing_that_takes_long() -> None:
    heavy = {"asyncio", "click", "fastwrap._native", "httpx", "openai", "psutil", "rich"}
    program = f"import sys, fastwrap; fastwrap.FastwrapError; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "set()\n"
