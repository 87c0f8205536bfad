"""What the client receives is what the engine sent."""

from __future__ import annotations

import gzip
import json
import os
import random
import zlib

import pytest

from proxy.blocks import block_of, without_blocks
from proxy.client import CHAT, Call, ask, post, stream, stream_open
from proxy.processes import Proxy
from proxy.scripted import DONE, ScriptedEngine, Turn, delta, streams, whole

PLAIN = [("content-type", "text/plain")]


@pytest.mark.parametrize("status", [201, 400, 401, 404, 418, 429, 500, 503, 599])
@pytest.mark.parametrize("target", [CHAT, "/v1/models"])
def test_every_status_passes(proxy: Proxy, engine: ScriptedEngine, status: int, target: str) -> None:
    error = {"error": {"message": "the engine's own", "type": "t", "code": status}}
    engine.use(lambda turn: turn.json(error, status, [("retry-after", "7"), ("x-request-id", "e")]))
    answer = ask(proxy.url, "POST", target, body=b"{}")
    assert (answer.status, answer.header("retry-after"), answer.header("x-request-id")) == (status, "7", "e")
    assert without_blocks(answer.body)[0] == json.dumps(error).encode()


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("target", [CHAT, "/v1/models"])
def test_an_answer_without_a_body(proxy: Proxy, engine: ScriptedEngine, status: int, target: str) -> None:
    engine.use(lambda turn: turn.head(status, [("etag", '"x"')]))
    for _ in range(2):
        answer = ask(proxy.url, "POST", target, body=b"{}")
        assert (answer.status, answer.body, answer.header("etag")) == (status, b"", '"x"')


def test_a_redirect_is_not_followed(proxy: Proxy, engine: ScriptedEngine) -> None:
    location = f"{engine.url}/elsewhere"
    engine.use(lambda turn: turn.answer(b"", 307, [("location", location)]))
    answer = post(proxy.url)
    assert (answer.status, answer.header("location")) == (307, location)
    assert engine.request.target == CHAT


def test_headers_pass_but_those_of_the_hop(proxy: Proxy, engine: ScriptedEngine) -> None:
    headers = [
        ("Set-Cookie", "a=1; Path=/"),
        ("Set-Cookie", "b=2"),
        ("Connection", "X-Named"),
        ("X-Named", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authenticate", "Basic"),
        ("X-Latin", "caf\xe9"),
        ("ETag", '"x"'),
        ("Server", "engine/1"),
        ("Date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ]
    engine.use(lambda turn: turn.answer(b"ok", 200, headers))
    answer = ask(proxy.url, "GET", "/v1/models")
    assert answer.all("set-cookie") == ["a=1; Path=/", "b=2"]
    for name, value in headers[6:]:
        assert answer.all(name) == [value], name
    for name in ("x-named", "keep-alive", "proxy-authenticate"):
        assert answer.all(name) == [], name
    assert answer.header("content-length") == "2"


FIRST_TOKENS = ("gen_ai_server_time_to_first_token_seconds_count", "chat", "vllm")
#: brotli's and zstd's are what their command-line tools make of `{"id":"c"}`.
COMPRESSED = {
    "gzip": gzip.compress(b'{"a":1}' * 100),
    "deflate": zlib.compress(b'{"a":1}' * 100),
    "br": b'\x8b\x04\x80{"id":"c"}\x03',
    "zstd": b'(\xb5/\xfd\x04XQ\x00\x00{"id":"c"}H\x8b\x0eV',
}


@pytest.mark.parametrize("encoding", COMPRESSED)
@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
def test_compressed_answers_pass_untouched(
    proxy: Proxy, engine: ScriptedEngine, encoding: str, content_type: str
) -> None:
    """From an engine that was asked for none: nothing is added, and nothing measured that cannot be read."""
    body = COMPRESSED[encoding]
    headers = [("content-type", content_type), ("content-encoding", encoding), ("etag", '"x"')]

    def answer(turn: Turn) -> None:
        turn.head(200, [*headers, ("content-length", str(len(body)))])
        turn.write(b"" if turn.request.method == "HEAD" else body)

    engine.use(answer)
    with proxy.counts("complete"):
        first_tokens = proxy.scrape().get(FIRST_TOKENS)
        for method, target in (("GET", "/v1/models"), ("POST", CHAT), ("HEAD", CHAT)):
            got = ask(proxy.url, method, target, [("accept-encoding", "gzip, br")])
            assert (got.body, got.header("content-length")) == (b"" if method == "HEAD" else body, str(len(body)))
            assert (got.header("content-encoding"), got.header("etag")) == (encoding, '"x"')
        assert proxy.scrape().get(FIRST_TOKENS) == first_tokens


def test_what_is_not_measured_is_not_touched(proxy: Proxy, engine: ScriptedEngine) -> None:
    body = b'{"choices":[{"index":0,"finish_reason":"stop"}]}'
    for content_type in ("application/json", "text/event-stream"):
        engine.use(whole(body, [("content-type", content_type)]))
        assert ask(proxy.url, "POST", "/tokenize", body=b"{}").body == body
    engine.use(lambda turn: turn.answer(b"%PDF", 200, PLAIN))
    assert post(proxy.url).body == b"%PDF"


def test_content_length_is_exact_and_digests_go(proxy: Proxy, engine: ScriptedEngine) -> None:
    digests = [("ETag", '"x"'), ("Content-MD5", "x"), ("Digest", "x"), ("Accept-Ranges", "bytes")]
    engine.use(lambda turn: turn.json({"id": 1}, 200, digests))
    answer = post(proxy.url)
    assert block_of(answer)
    assert answer.header("content-length") == str(len(answer.body))
    assert [answer.header(name) for name, _ in digests] == [None] * 4


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":1,"a":2,"n":12345678901234567890.10,"s":"\\ud800\\/"}',
        b'{\n  "a": [1e400, -0.0],\n  "b": {}\n}\n',
        b"{}",
        b'{"\\u00e9":"\xc3\xa9","usage":{"completion_tokens":1}}',
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_json_keeps_its_bytes(proxy: Proxy, engine: ScriptedEngine, body: bytes, chunked: bool) -> None:
    def answer(turn: Turn) -> None:
        if not chunked:
            return turn.answer(body, 200, [("content-type", "application/json")])
        turn.head(200, [("content-type", "application/json"), ("transfer-encoding", "chunked")])
        for byte in body:
            turn.chunk(bytes([byte]))
        return turn.end()

    engine.use(answer)
    stripped, blocks = without_blocks(post(proxy.url).body)
    assert (stripped, len(blocks)) == (body, 1)


@pytest.mark.parametrize("body", [b"[1]", b"null", b'{"a":', b"", b"{} {}", b'{"a":1}x', b"\xff\xfe"])
def test_what_is_no_json_object_passes_untouched(proxy: Proxy, engine: ScriptedEngine, body: bytes) -> None:
    engine.use(lambda turn: turn.answer(body, 200, [("content-type", "application/json")]))
    answer = post(proxy.url)
    assert (answer.body, answer.header("content-length"), answer.whole) == (body, str(len(body)), True)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_framing_is_kept(proxy: Proxy, engine: ScriptedEngine, newline: bytes) -> None:
    events = [
        b": ping\n\n",
        b"event: x\nid: 7\n",
        delta("", role="a"),
        delta("\u20ac"),
        b"retry: 5\n\n",
        delta(finish="stop"),
        DONE,
    ]
    body = b"\xef\xbb\xbf" + b"".join(events).replace(b"\n", newline)
    chance = random.Random(1)  # noqa: S311 (it cuts streams)
    for _ in range(10):
        cuts = sorted(chance.sample(range(len(body)), 20))
        pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True) if a < b]
        engine.use(streams(pieces))
        stripped, blocks = without_blocks(stream(proxy.url).body)
        assert (stripped, len(blocks)) == (body, 1)


def test_a_stream_byte_by_byte(proxy: Proxy, engine: ScriptedEngine) -> None:
    body = b"".join([delta("\u20ac\U0001f600" * 20), delta(finish="stop"), DONE])
    engine.use(lambda turn: turn.stream([bytes([byte]) for byte in body]))
    stripped, blocks = without_blocks(stream(proxy.url).body)
    assert (stripped, len(blocks)) == (body, 1)


def test_events_that_come_at_once_go_on_as_one(proxy: Proxy, engine: ScriptedEngine) -> None:
    events = [delta(f"word {at} ") for at in range(40)]

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        # As an engine does that has fallen behind: a chunk for each event, and all of them in one write.
        turn.write(b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events))
        turn.wait_closed()

    engine.use(answer)
    call = stream_open(proxy.url)
    body, pieces = b"", 0
    while len(body) < len(b"".join(events)):
        body += next(call.pieces)
        pieces += 1
    call.leave()
    assert body == b"".join(events)
    # A read may end anywhere, but nowhere near each event.
    assert pieces <= len(events) // 4


def test_an_event_of_8_mib(proxy: Proxy, engine: ScriptedEngine) -> None:
    body = b"".join([delta("x" * (8 << 20)), delta(finish="stop"), DONE])
    engine.use(lambda turn: turn.stream([body[at : at + 65536] for at in range(0, len(body), 65536)]))
    stripped, blocks = without_blocks(stream(proxy.url).body)
    assert len(blocks) == 1
    assert stripped == body


def test_an_answer_that_ends_with_the_connection(proxy: Proxy, engine: ScriptedEngine) -> None:
    """HTTP/1.0 style: neither a length nor chunks."""
    data = os.urandom(100_000)

    def answer(turn: Turn) -> None:
        turn.head(200, PLAIN)
        turn.write(data)
        turn.close()

    engine.use(answer)
    got = ask(proxy.url, "GET", "/file")
    assert (got.body, got.whole) == (data, True)


def test_trailers_do_no_harm(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream([("trailer", "x-sum")])
        turn.chunk(delta(finish="stop"))
        turn.chunk(DONE)
        turn.write(b"0\r\nx-sum: 1\r\n\r\n")

    engine.use(answer)
    for _ in range(2):
        got = stream(proxy.url)
        assert got.whole
        assert got.header("trailer") is None


def test_early_hints_are_no_answer(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
        turn.answer(b"ok", 200, PLAIN)

    engine.use(answer)
    assert (post(proxy.url).body, ask(proxy.url, "GET", "/x").body) == (b"ok", b"ok")


def test_a_client_that_expects_100_continue(proxy: Proxy, engine: ScriptedEngine) -> None:
    call = Call(proxy.url, "POST", CHAT, [("expect", "100-continue"), ("content-length", "2")])
    call.socket.sendall(b"{}")
    assert call.answer().status == 200
    assert engine.request.header("expect") is None


def test_connections_are_kept(proxy: Proxy, engine: ScriptedEngine) -> None:
    """Both to the client and to the engine."""
    first = Call(proxy.url, "POST", CHAT, body=b"{}")
    assert b"performance" in b"".join(first.pieces)
    first.socket.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
    answer = first.answer
    first._head = first._pieces = None  # noqa: SLF001 (the next answer on the same connection)
    assert answer().status == 200
    assert len({request.connection for request in engine.requests}) == 1
