"""A fault of fastwrap's own ends one request: its client is told, it is counted, and nobody else notices."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastwrap import app as application
from fastwrap import metrics
from fastwrap.app import Application
from fastwrap.settings import Settings
from proxy.blocks import without_blocks
from proxy.client import ask, post, stream, stream_open
from proxy.conftest import STACKS
from proxy.processes import DEADLINE_S, Proxy
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta, usage
from proxy.test_mounting import uvicorn_serves

SECRET = "it quotes a prompt"  # noqa: S105 (no password)
FAULTY = Path(__file__).with_name("faulty")


class Served(Proxy):
    """The application in this process, as a stranger's server serves it."""

    def __init__(self, url: str) -> None:  # nothing is started
        self.url = url


def internal_errors(proxy: Proxy) -> int:
    return int(proxy.scrape()["fastwrap_internal_errors_total",])


@pytest.fixture
def served_here(relay: str, engine: ScriptedEngine) -> Iterator[Served]:
    settings = Settings(upstream=engine.url, relay=relay, gpu="off", backend="vllm")  # type: ignore[arg-type]
    with uvicorn_serves(Application(settings), "on") as url:
        yield Served(url)


class Broken:
    """In the place of a function of the application's: raises once, at the call with this number."""

    def __init__(self, inner: Any, at: int) -> None:
        self.inner, self.left = inner, at

    async def __call__(self, *arguments: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError(SECRET)
        return await self.inner(*arguments)


def test_an_exception_before_the_head_is_a_500(
    served_here: Served, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.use(chat)
    with served_here.counts("error"), monkeypatch.context() as patch:
        patch.setattr(application, "_answer", Broken(application._answer, 1))  # noqa: SLF001
        answer = post(served_here.url)
    assert (answer.status, answer.error["code"], answer.whole) == (500, "internal_error", True)
    assert SECRET.encode() not in answer.body
    assert internal_errors(served_here) == 1
    assert stream(served_here.url).events[-1] == "[DONE]"


def test_an_exception_in_mid_stream_aborts_it_and_no_other(
    served_here: Served, engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta(turn.request.json["user"]))
        if turn.request.json["user"] == "broken":
            turn.wait_closed()
            closed.set()
            return
        assert closed.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    give = application._give  # noqa: SLF001

    async def broken(part: Any, send: Any) -> bool:
        more = await give(part, send)
        if b'"broken"' in part[1]:
            raise RuntimeError(SECRET)
        return more

    other = stream_open(served_here.url, user="other")
    other.read_until(b'"other"')
    with monkeypatch.context() as patch:
        patch.setattr(application, "_give", broken)
        assert not stream(served_here.url, user="broken").whole
    assert closed.wait(DEADLINE_S), "the engine goes on generating"
    assert other.answer().events[-1] == "[DONE]"
    outcomes = served_here.outcomes()
    assert (outcomes["error"], outcomes["complete"]) == (1, 1)
    assert internal_errors(served_here) == 1


def test_an_own_route_that_fails_is_a_500_too(served_here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_meter: object) -> tuple[str, bytes]:
        raise RuntimeError(SECRET)

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "exposition", broken)
        answer = ask(served_here.url, "GET", "/-/metrics")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert internal_errors(served_here) == 1


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process whose `recv()` and whose application fail at marks in what the engine sends."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("a recv() that lies needs a C compiler: there is no `cc`")
    library = tmp_path_factory.mktemp("faulty") / "recv.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(FAULTY / "recv.c"), "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join([str(FAULTY), os.environ.get("PYTHONPATH", "")])}


@pytest.fixture(scope="module")
def faulty(request: pytest.FixtureRequest, preload: dict[str, str], _scripted: ScriptedEngine) -> Iterator[Proxy]:
    """`fastwrap serve` as it is, in such a process."""
    proxy = Proxy(_scripted.url, *STACKS[request.param], "--backend", "vllm", env=preload)
    yield proxy
    proxy.stop()


#: Server, and what the engine sends where the fault is wanted. The native server has no Python on a request's way.
FAULTS = pytest.mark.parametrize(
    ("faulty", "mark"),
    [
        ("granian-native", "provoke a panic"),
        ("granian-native", "provoke an exception"),
        ("native", "provoke a panic"),
    ],
    indirect=["faulty"],
)


@FAULTS
def test_a_fault_before_the_head_is_a_500(faulty: Proxy, engine: ScriptedEngine, mark: str) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream([("x-mark", f"{SECRET}: {mark}")])
        turn.wait_closed()

    engine.use(answer)
    before = internal_errors(faulty)
    with faulty.counts("error"):
        told = stream(faulty.url, headers=[("x-fault", mark.rsplit(maxsplit=1)[-1])])
    assert (told.status, told.error["code"], told.whole) == (500, "internal_error", True)
    assert internal_errors(faulty) == before + 1
    assert SECRET not in faulty.log


@FAULTS
def test_a_fault_in_mid_stream_aborts_it_and_no_other(faulty: Proxy, engine: ScriptedEngine, mark: str) -> None:
    begun, closed = threading.Event(), threading.Event()
    whole = [delta("a"), delta("b"), delta(finish="stop"), usage(2), DONE]

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(whole[0])
        if turn.request.json["user"] == "broken":
            assert begun.wait(DEADLINE_S)
            turn.chunk(delta(f"{SECRET}: {mark}"))
            turn.wait_closed()
            closed.set()
            return
        assert closed.wait(DEADLINE_S), "the engine goes on generating"
        for event in whole[1:]:
            turn.chunk(event)
        turn.end()

    engine.use(answer)
    before, outcomes = internal_errors(faulty), faulty.outcomes()
    other = stream_open(faulty.url, user="other", stream_options={"include_usage": True})
    read = other.read_until(whole[0])
    broken = stream_open(faulty.url, user="broken")
    broken.read_until(whole[0])
    begun.set()
    assert not broken.answer().whole
    assert without_blocks(read + other.answer().body)[0] == b"".join(whole)
    told = faulty.outcomes()
    assert (told["error"], told["complete"]) == (outcomes["error"] + 1, outcomes["complete"] + 1)
    assert internal_errors(faulty) == before + 1
    assert faulty.process.poll() is None
    assert SECRET not in faulty.log
