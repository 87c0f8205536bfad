"""A fault of fastwrap's own ends one request: its client is told, it is counted, and nobody else notices."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fastwrap import app as application
from fastwrap import metrics
from fastwrap.app import Application
from fastwrap.settings import Settings
from proxy.client import ask, post, stream, stream_open
from proxy.processes import DEADLINE_S, Proxy
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta
from proxy.test_mounting import uvicorn_serves

SECRET = "it quotes a prompt"  # noqa: S105 (no password)


class Served(Proxy):
    """The application in this process, as a stranger's server serves it."""

    def __init__(self, url: str) -> None:  # nothing is started
        self.url = url

    @property
    def internal_errors(self) -> int:
        return int(self.scrape()["fastwrap_internal_errors_total",])


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
    assert served_here.internal_errors == 1
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
    assert served_here.internal_errors == 1


def test_an_own_route_that_fails_is_a_500_too(served_here: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_meter: object) -> tuple[str, bytes]:
        raise RuntimeError(SECRET)

    with monkeypatch.context() as patch:
        patch.setattr(metrics, "exposition", broken)
        answer = ask(served_here.url, "GET", "/-/metrics")
    assert (answer.status, answer.error["code"]) == (500, "internal_error")
    assert served_here.internal_errors == 1
