"""The four timeouts are separate, and an active stream is never cut by an idle timer."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from proxy.client import ask, post, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.scripted import DONE, Script, ScriptedEngine, Turn, chat, delta

START = delta("", role="assistant") + delta("a")
PAUSE_S = 0.4
SLACK_S = 2.0


@pytest.fixture
def hasty(served: Serve, engine: ScriptedEngine) -> Proxy:
    limits = ("--first-byte-timeout", str(PAUSE_S), "--idle-timeout", str(PAUSE_S))
    return served(engine.url, "--backend", "vllm", *limits)


def silent(turn: Turn) -> None:
    turn.wait_closed()


def silent_after(data: bytes) -> Script:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(data)
        turn.wait_closed()

    return answer


def test_a_slow_first_byte(hasty: Proxy, engine: ScriptedEngine) -> None:
    engine.use(silent)
    with hasty.counts("error"):
        began = time.monotonic()
        got = stream(hasty.url)
        assert PAUSE_S <= time.monotonic() - began < PAUSE_S + SLACK_S
    assert (got.status, got.error["code"], got.error["type"]) == (504, "first_byte_timeout", "timeout_error")
    assert len(engine.requests) == 1


def test_silence_between_events(hasty: Proxy, engine: ScriptedEngine) -> None:
    engine.use(silent_after(START))
    with hasty.counts("error"):
        began = time.monotonic()
        got = stream(hasty.url)
        assert PAUSE_S <= time.monotonic() - began < PAUSE_S + SLACK_S
    assert got.whole
    assert got.body.startswith(START)
    assert got.events[-1]["error"]["code"] == "idle_timeout"


def test_silence_inside_an_event(hasty: Proxy, engine: ScriptedEngine) -> None:
    engine.use(silent_after(START[:-5]))
    with hasty.counts("error"):
        got = stream(hasty.url)
    assert not got.whole
    assert START.startswith(got.body)  # an abort may overtake the last bytes


def test_silence_in_json(hasty: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.head(200, [("content-type", "application/json"), ("content-length", "9")])
        turn.write(b"{")
        turn.wait_closed()

    engine.use(answer)
    with hasty.counts("error"):
        got = post(hasty.url)
    assert (got.status, got.error["code"]) == (504, "idle_timeout")


def test_an_active_stream_outlives_every_idle_timer(hasty: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        for _ in range(10):
            turn.pause(PAUSE_S / 4)
            turn.chunk(delta("a"))
        turn.chunk(delta(finish="stop") + DONE)
        turn.end()

    engine.use(answer)
    with hasty.counts("complete"):
        assert stream(hasty.url).events[-1] == "[DONE]"


def test_a_slow_client_is_no_silent_engine(hasty: Proxy, engine: ScriptedEngine) -> None:
    """The engine waits for the client to read; the client takes longer than the idle timeout."""
    pieces = [delta("x" * 65536)] * 400

    engine.use(lambda turn: turn.stream([*pieces, delta(finish="stop"), DONE]))
    with hasty.counts("complete"):
        call = stream_open(hasty.url)
        call.read_until(b"x")
        threading.Event().wait(3 * PAUSE_S)  # nothing is read for a while
        got = call.answer()
    assert got.events[-1] == "[DONE]"


def test_the_total_timeout_cuts_an_active_stream(served: Serve, engine: ScriptedEngine) -> None:
    proxy = served(engine.url, "--backend", "vllm", "--total-timeout", "0.5")

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        for _ in range(200):
            turn.chunk(delta("a"))
            turn.pause(0.05)

    engine.use(answer)
    with proxy.counts("error"):
        began = time.monotonic()
        got = stream(proxy.url)
        assert 0.5 <= time.monotonic() - began < 0.5 + SLACK_S
    assert got.events[-1]["error"]["code"] == "total_timeout"
    engine.use(silent)
    with proxy.counts("error"):
        got = post(proxy.url)
    assert (got.status, got.error["code"]) == (504, "total_timeout")
    engine.use(chat)
    assert post(proxy.url).status == 200


def test_an_engine_that_does_not_accept(serve: Serve) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:  # fills the queue: the next handshake gets no answer
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        proxy = serve(f"http://127.0.0.1:{port}", "--backend", "vllm", "--connect-timeout", "0.3")
        with proxy.counts("error"):
            began = time.monotonic()
            got = post(proxy.url)
            assert 0.3 <= time.monotonic() - began < 0.3 + SLACK_S
        assert (got.status, got.error["code"]) == (504, "connect_timeout")
        assert ask(proxy.url, "GET", "/-/ready").status == 503
        for one in waiting:
            one.close()
