"""Answers that two parsers might read in two ways: no client gets another's, nor a head that no engine sent."""

from __future__ import annotations

import pytest

from proxy.client import CHAT, Answer, Wire, ask
from proxy.processes import Proxy
from proxy.scripted import ScriptedEngine, Turn

#: The two servers; the reference relay behind one of them reads a little more than hyper does.
pytestmark = pytest.mark.parametrize("stack", ["granian-native", "native"], indirect=True)

OK = b"HTTP/1.1 200 OK\r\n"
PLAIN = OK + b"content-type: text/plain\r\n"
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
CHUNKED = b"transfer-encoding: chunked\r\n"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"


def answered(proxy: Proxy, engine: ScriptedEngine, data: bytes, target: str) -> Answer | None:
    """What a client gets where the engine writes this; the next one gets its own answer."""

    def answer(turn: Turn) -> None:
        turn.write(data)
        turn.close()

    engine.use(answer)
    wire = Wire(proxy.url)
    wire.send(b"GET %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" % target.encode())
    answers = wire.answers()
    assert len(answers) <= 1
    engine.use(lambda turn: turn.answer(b"next", 200, [("content-type", "text/plain")]))
    assert ask(proxy.url, "GET", "/next").body == b"next"
    return answers[0] if answers else None


@pytest.mark.parametrize("target", ["/a", CHAT])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PLAIN + b"content-length: 5\r\n\r\nhello" + EVIL, id="a second answer behind"),
        pytest.param(PLAIN + CHUNKED + b"\r\n" + HELLO + EVIL, id="a second answer behind chunks"),
        pytest.param(PLAIN + b"content-length: 5\r\ncontent-length: 5\r\n\r\nhello", id="length twice"),
        pytest.param(PLAIN + b"content-length: 50\r\n" + CHUNKED + b"\r\n" + HELLO, id="length and coding"),
        pytest.param(PLAIN + CHUNKED + b"content-length: 1\r\n\r\n" + HELLO, id="coding and length"),
        pytest.param(
            b"HTTP/1.1 103 X\r\nx: 1\r\n\r\n" * 50 + PLAIN + b"content-length: 5\r\n\r\nhello", id="a storm of 103"
        ),
        pytest.param(b"HTTP/1.1 100 X\r\n\r\n" * 50 + PLAIN + b"content-length: 5\r\n\r\nhello", id="a storm of 100"),
        pytest.param(PLAIN + CHUNKED + b"trailer: x\r\n\r\n5\r\nhello\r\n0\r\nset-cookie: evil\r\n\r\n", id="trailers"),
        pytest.param(PLAIN + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello", id="an upgrade"),
        pytest.param(
            PLAIN + b"connection: set-cookie\r\nset-cookie: evil\r\ncontent-length: 5\r\n\r\nhello", id="named"
        ),
        pytest.param(b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nhello", id="HTTP/1.0"),
    ],
)
def test_what_is_plain_passes(proxy: Proxy, engine: ScriptedEngine, data: bytes, target: str) -> None:
    got = answered(proxy, engine, data, target)
    assert got is not None
    assert (got.status, got.body, got.whole) == (200, b"hello", True)
    for name in ("trailer", "upgrade", "set-cookie", "keep-alive"):
        assert got.header(name) is None
    assert len(got.all("content-length") + got.all("transfer-encoding")) <= 1


@pytest.mark.parametrize("target", ["/a", CHAT])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(OK + b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello!", id="lengths that differ"),
        pytest.param(OK + b"content-length: +5\r\n\r\nhello", id="a plus"),
        pytest.param(OK + b"content-length: 5, 6\r\n\r\nhello!", id="a list of lengths"),
        pytest.param(OK + b"x: a\x00b\r\ncontent-length: 5\r\n\r\nhello", id="NUL in a value"),
        pytest.param(OK + b"x: a\rset-cookie: evil\r\ncontent-length: 5\r\n\r\nhello", id="CR in a value"),
        pytest.param(OK + b"x y: a\r\ncontent-length: 5\r\n\r\nhello", id="a space in a name"),
        pytest.param(OK + b"x: 1\r\n folded\r\ncontent-length: 5\r\n\r\nhello", id="a folded line"),
        pytest.param(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: evil\r\n\r\nevil", id="101"),
        pytest.param(b"HTTP/1.1 2000 OK\r\ncontent-length: 5\r\n\r\nhello", id="a status of four digits"),
        pytest.param(
            OK + b"x: " + b"a" * 1_000_000 + b"\r\ncontent-length: 5\r\n\r\nhello", id="a megabyte of a header"
        ),
        pytest.param(OK + b"x: 1\r\n" * 200 + b"content-length: 5\r\n\r\nhello", id="200 headers"),
    ],
)
def test_what_is_not_is_a_502(proxy: Proxy, engine: ScriptedEngine, data: bytes, target: str) -> None:
    got = answered(proxy, engine, data, target)
    assert got is not None
    assert (got.status, got.error["code"]) == (502, "engine_closed_connection")
    assert b"evil" not in got.body
