"""A side that does not read holds a bounded buffer, and the others do not notice."""

from __future__ import annotations

import socket
import threading

from proxy.client import CHAT, Call, ask, stream, stream_open
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta

MIB = 1 << 20
SENT = 200 * MIB
LIMIT = 30 * MIB


class Flood:
    """Sends without end, and knows how much has gone out."""

    def __init__(self) -> None:
        self.sent_bytes = 0
        self.stuck = threading.Event()

    def __call__(self, turn: Turn) -> None:
        if turn.request.json.get("short"):
            return chat(turn)
        turn.begin_stream()
        piece = delta("x" * 65536)
        turn.socket.settimeout(0.5)
        try:
            while self.sent_bytes < SENT:
                turn.chunk(piece)
                self.sent_bytes += len(piece)
        except TimeoutError:
            self.stuck.set()
            turn.wait_closed()
        return None


def test_a_client_that_reads_nothing(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(flood := Flood())
    stream(proxy.url, short=True)
    before, counted = proxy.rss_bytes, proxy.outcomes()
    call = stream_open(proxy.url)
    until(flood.stuck.is_set, "the engine is held back")
    assert flood.sent_bytes < LIMIT
    assert proxy.rss_bytes - before < LIMIT
    for _ in range(5):
        assert stream(proxy.url, short=True).events[-1] == "[DONE]"
    call.leave()
    until(lambda: proxy.in_flight == 0, "nothing in flight")
    after = proxy.outcomes()
    assert (after["complete"] - counted["complete"], after["cancelled"] - counted["cancelled"]) == (5, 1)


def test_a_client_that_reads_late_gets_all(proxy: Proxy, engine: ScriptedEngine) -> None:
    body = b"".join([*[delta("x" * 65536)] * 300, delta(finish="stop"), DONE])
    engine.use(lambda turn: turn.stream([body[at : at + MIB] for at in range(0, len(body), MIB)]))
    call = stream_open(proxy.url)
    threading.Event().wait(0.3)  # all buffers are full
    got = call.answer()
    assert got.events[-1] == "[DONE]"
    assert len(got.body) > len(body)


def test_an_engine_that_does_not_read(proxy: Proxy, engine: ScriptedEngine) -> None:
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        gate.wait(DEADLINE_S)
        turn.answer(str(len(turn.read_body())).encode())

    ask(proxy.url, "POST", "/v1/files", body=b"x")
    engine.reads_bodies = False
    engine.use(answer)
    before = proxy.rss_bytes
    call = Call(proxy.url, "POST", "/v1/files", [("content-length", str(60 * MIB))])
    call.socket.settimeout(0.5)
    sent = 0
    data = b"x" * MIB
    try:
        while sent < 60 * MIB:
            sent += call.socket.send(data[: 60 * MIB - sent])
    except TimeoutError:
        pass
    assert sent < LIMIT, "the client is not held back"
    assert proxy.rss_bytes - before < LIMIT
    gate.set()
    call.socket.settimeout(DEADLINE_S)
    while sent < 60 * MIB:
        sent += call.socket.send(data[: 60 * MIB - sent])
    assert call.answer().body == str(60 * MIB).encode()
    engine.reads_bodies = True


def test_many_clients_at_once(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(chat)
    with proxy.counts("complete", requests=200):
        calls = [stream_open(proxy.url) for _ in range(200)]
        assert all(call.answer().events[-1] == "[DONE]" for call in calls)


def test_a_slow_upload_does_not_stop_others(proxy: Proxy) -> None:
    slow = [socket.create_connection(("127.0.0.1", int(proxy.url.rsplit(":", 1)[1]))) for _ in range(50)]
    for one in slow:
        one.sendall(b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{" % CHAT.encode())
    assert stream(proxy.url).events[-1] == "[DONE]"
    for one in slow:
        one.close()
    until(lambda: proxy.in_flight == 0, "nothing in flight")
