"""Clients that hold a connection and give or take almost nothing: they are cut, and honest ones do not notice."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from proxy.client import CHAT, Wire, ask, post, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta

MIB = 1 << 20
#: As many as attack at once.
CROWD = 200
TIMEOUTS = ("--header-timeout", "1", "--body-timeout", "1")
HEAD = b"POST %b HTTP/1.1\r\nhost: a\r\n" % CHAT.encode()
FILES = b"POST /v1/files HTTP/1.1\r\nhost: a\r\n"


@pytest.fixture
def hasty(served: Serve, engine: ScriptedEngine) -> Proxy:
    """Waits a second for a client's head, and for its body."""
    return served(engine.url, "--backend", "vllm", *TIMEOUTS)


@contextlib.contextmanager
def crowd(proxy: Proxy, first: bytes) -> Iterator[list[Wire]]:
    """So many connections that have sent this, and are closed at the end."""
    with contextlib.ExitStack() as cleanup:
        wires = [Wire(proxy.url) for _ in range(CROWD)]
        for wire in wires:
            cleanup.callback(wire.socket.close)
            wire.send(first)
        yield wires


def is_served(proxy: Proxy) -> None:
    """What honest clients want goes on."""
    assert stream(proxy.url).events[-1] == "[DONE]"
    assert post(proxy.url).json["performance"]["outcome"] == "complete"
    for target in ("/-/healthy", "/-/metrics"):
        assert ask(proxy.url, "GET", target).status == 200


def trickle(wires: list[Wire], byte: bytes, stopped: threading.Event) -> None:
    """Send a byte on each connection again and again, more often than any silence is allowed to last."""
    while not stopped.wait(0.2):
        for wire in wires:
            with contextlib.suppress(OSError):  # it was cut, and is closed
                wire.socket.sendall(byte)


@pytest.mark.parametrize(
    ("first", "byte", "status"),
    [
        pytest.param(b"", b"", 0, id="nothing"),
        pytest.param(b"POST ", b"", 0, id="silent in the head"),
        pytest.param(HEAD + b"x: ", b"a", 0, id="a head byte by byte"),
        pytest.param(HEAD + b"content-length: 1000000\r\n\r\n", b"", 408, id="no body"),
        pytest.param(HEAD + b"content-length: 1000000\r\n\r\n{", b"a", 408, id="a body byte by byte"),
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n", 408, id="chunk by chunk"),
        pytest.param(FILES + b"content-length: 1000000\r\n\r\n{", b"", 408, id="a file and silence"),
        pytest.param(FILES + b"content-length: 1000000\r\n\r\n{", b"a", 408, id="a file byte by byte"),
    ],
)
def test_slow_senders_are_cut(hasty: Proxy, engine: ScriptedEngine, first: bytes, byte: bytes, status: int) -> None:
    engine.use(chat)
    is_served(hasty)
    before = hasty.rss_bytes
    stopped = threading.Event()
    with crowd(hasty, first) as wires:
        trickling = threading.Thread(target=trickle, args=(wires, byte, stopped))
        trickling.start()
        try:
            is_served(hasty)
            assert hasty.rss_bytes - before < 50 * MIB
            for wire in wires:
                assert [answer.status for answer in wire.answers()] == ([status] if status else [])
        finally:
            stopped.set()
            trickling.join(DEADLINE_S)
    until(lambda: hasty.in_flight == 0, "nothing in flight")
    is_served(hasty)


def test_a_body_that_comes_steadily_may_take_longer(hasty: Proxy, engine: ScriptedEngine) -> None:
    """Each byte buys time: only a trickle is cut."""
    engine.use(lambda turn: turn.answer(str(len(turn.request.body)).encode(), 200, [("content-type", "text/plain")]))
    wire = Wire(hasty.url)
    wire.send(FILES + b"connection: close\r\ncontent-length: 10000\r\n\r\n")
    for _ in range(10):
        threading.Event().wait(0.3)
        wire.send(b"x" * 1000)
    assert [answer.body for answer in wire.answers()] == [b"10000"]


def test_those_that_read_nothing(hasty: Proxy, engine: ScriptedEngine) -> None:
    """Each of a stream of 64 MiB: memory is bounded by what each connection may hold, and others go on."""
    event = delta("x" * 65536)

    def answer(turn: Turn) -> None:
        if turn.request.json.get("short") or not turn.request.json.get("stream"):
            return chat(turn)
        return turn.stream([*[event] * (64 * MIB // len(event)), delta(finish="stop"), DONE])

    engine.use(answer)
    stream(hasty.url, short=True)
    before = hasty.rss_bytes
    calls = [stream_open(hasty.url) for _ in range(CROWD)]
    until(lambda: hasty.in_flight >= CROWD, "all have begun")
    assert stream(hasty.url, short=True).events[-1] == "[DONE]"
    assert ask(hasty.url, "GET", "/-/metrics").status == 200
    held_bytes = hasty.rss_bytes - before
    assert held_bytes < CROWD * 2 * MIB
    for call in calls:
        call.leave()
    until(lambda: hasty.in_flight == 0, "nothing in flight")


#: Heads without end: of many headers, and of a large one.
MANY = b"".join(b"x-%d: %b\r\n" % (number, b"a" * 100) for number in range(20_000))
LARGE = b"x: " + b"a" * 2 * MIB


@pytest.mark.parametrize("headers", [MANY, LARGE], ids=["many", "large"])
def test_a_flood_of_headers(hasty: Proxy, engine: ScriptedEngine, headers: bytes) -> None:
    """No head is read further than is allowed, and the engine hears of none."""
    engine.use(chat)
    is_served(hasty)
    asked, before = len(engine.requests), hasty.rss_bytes
    with crowd(hasty, HEAD) as wires, ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda wire: wire.send(headers), wires)
        assert post(hasty.url).status == 200
        assert len(list(sent)) == CROWD
        assert hasty.rss_bytes - before < 50 * MIB
        for wire in wires:
            statuses = [answer.status for answer in wire.answers()]
            assert statuses in ([], [400], [431]), statuses  # none where what was not read has reset the connection
    assert len(engine.requests) == asked + 1
    is_served(hasty)


def cpu_seconds(proxy: Proxy) -> float:
    """What its processes have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in proxy.pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def test_a_scraper_that_reads_nothing(hasty: Proxy, engine: ScriptedEngine) -> None:
    """It asks for 100 MiB of pages, and gets what its connection holds: no more is rendered."""
    engine.use(chat)
    is_served(hasty)
    page = ask(hasty.url, "GET", "/-/metrics").body
    before = hasty.rss_bytes
    scraper = Wire(hasty.url)
    with scraper.socket:
        scraper.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        scraper.send(b"GET /-/metrics HTTP/1.1\r\nhost: a\r\n\r\n" * (100 * MIB // len(page)))
        is_served(hasty)
        until(lambda: is_idle(hasty), "nothing more is rendered")
        assert hasty.rss_bytes - before < 30 * MIB
        is_served(hasty)


def is_idle(proxy: Proxy) -> bool:
    """Whether it has done nothing for a moment."""
    before = cpu_seconds(proxy)
    threading.Event().wait(0.3)
    return cpu_seconds(proxy) == before
