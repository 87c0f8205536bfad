"""What is too large or too much is refused as OpenAI's clients expect it, and the engine is not touched."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from proxy.blocks import block_of
from proxy.client import CHAT, Call, ask, post, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, delta

MIB = 1 << 20


@pytest.fixture
def strict(served: Serve, engine: ScriptedEngine) -> Proxy:
    limits = ("--max-body-bytes", "1000", "--max-header-bytes", "2000", "--max-inflight", "3")
    return served(engine.url, "--backend", "vllm", *limits)


def accept(turn: Turn) -> None:
    turn.answer(str(len(turn.request.body)).encode(), 200, [("content-type", "text/plain")])


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
def test_a_body_of_known_length(strict: Proxy, engine: ScriptedEngine, target: str) -> None:
    engine.use(accept)
    assert ask(strict.url, "POST", target, body=b"x" * 1000).body == b"1000"
    with strict.counts("error", "chat" if target == CHAT else "other"):
        got = ask(strict.url, "POST", target, body=b"x" * 1001)
    assert (got.status, got.error["code"], got.error["type"]) == (413, "body_too_large", "invalid_request_error")
    assert len(engine.requests) == 1


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
def test_a_body_of_unknown_length(strict: Proxy, engine: ScriptedEngine, target: str) -> None:
    engine.use(accept)
    assert ask(strict.url, "POST", target, body=[b"x" * 500, b"y" * 500]).body == b"1000"
    with strict.counts("error", "chat" if target == CHAT else "other"):
        got = ask(strict.url, "POST", target, body=[b"x" * 500, b"y" * 501])
    assert (got.status, got.error["code"]) == (413, "body_too_large")
    assert [len(request.body) for request in engine.requests] == [1000]


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
def test_a_body_that_turns_out_too_large(strict: Proxy, engine: ScriptedEngine, target: str) -> None:
    """Some of it has been passed on already, where it is streamed; the engine never gets a whole request."""
    engine.use(accept)
    with strict.counts("error", "chat" if target == CHAT else "other"):
        call = Call(strict.url, "POST", target, [("transfer-encoding", "chunked"), ("x-open", "1")])
        call.socket.sendall(b"1\r\nx\r\n")
        until(lambda: strict.in_flight == 1, "the request has begun")
        call.socket.sendall(b"400\r\n%b\r\n0\r\n\r\n" % (b"y" * 1024))
        got = call.answer()
    assert (got.status, got.error["code"]) == (413, "body_too_large")
    assert engine.requests == []


def test_headers(strict: Proxy, engine: ScriptedEngine) -> None:
    engine.use(accept)
    assert ask(strict.url, "GET", "/v1/models", [("x-long", "a" * 1800)]).status == 200
    for headers in ([("x-long", "a" * 2000)], [(f"x-{number}", "a" * 20) for number in range(80)]):
        got = ask(strict.url, "POST", CHAT, headers, b"{}")
        assert (got.status, got.error["code"]) == (431, "headers_too_large")
    assert len(engine.requests) == 1


@pytest.fixture
def crowd(strict: Proxy, engine: ScriptedEngine) -> Iterator[list[Call]]:
    """As many streams as are allowed, all of them open."""
    gate = threading.Event()

    def answer(turn: Turn) -> None:
        if not turn.request.json.get("stream"):
            return turn.json({"id": "c"})
        turn.begin_stream()
        turn.chunk(delta("a"))
        gate.wait(20)
        turn.chunk(delta(finish="stop") + DONE)
        return turn.end()

    engine.use(answer)
    calls = [stream_open(strict.url) for _ in range(3)]
    for call in calls:
        call.read_until(b'"a"')
    yield calls
    gate.set()
    for call in calls:
        assert call.answer().events[-1] == "[DONE]"
    until(lambda: strict.in_flight == 0, "nothing in flight")
    assert post(strict.url).status == 200


def test_too_many_requests(strict: Proxy, engine: ScriptedEngine, crowd: list[Call]) -> None:
    assert strict.in_flight == len(crowd)
    before = len(engine.requests)
    for target in (CHAT, "/v1/models"):
        got = ask(strict.url, "POST", target, body=b"{}")
        assert (got.status, got.error["code"], got.header("retry-after")) == (503, "overloaded", "1")
    for target in ("/-/healthy", "/-/metrics", "/-/ready"):
        assert ask(strict.url, "GET", target, seconds=1.0).status == 200
    assert len(engine.requests) == before


@pytest.mark.usefixtures("crowd")
def test_a_refused_request_frees_its_place(strict: Proxy) -> None:
    for _ in range(20):
        assert post(strict.url).status == 503
    assert strict.in_flight == 3


def test_a_large_upload_is_streamed(proxy: Proxy, engine: ScriptedEngine) -> None:
    """In bounded memory, where nothing must be changed."""
    data = os.urandom(40 * MIB)
    engine.use(accept)
    ask(proxy.url, "POST", "/v1/files", body=data[:MIB])
    before = proxy.rss_bytes
    assert ask(proxy.url, "POST", "/v1/files", body=data).body == str(len(data)).encode()
    assert proxy.rss_bytes - before < 20 * MIB
    assert engine.requests[-1].body == data


USAGE = b'"include_usage":true'


@pytest.mark.parametrize(
    ("head", "tail", "received_head", "received_tail"),
    [
        (b'{"stream":true', b"}", b'{"stream":true', b',"stream_options":{%b}}' % USAGE),
        (b'{"stream":false', b"}", b'{"stream":false', b"}"),
        (b'{"stream":true,"stream_options":{}', b"}", b'{"stream":true,"stream_options":{%b}' % USAGE, b"}"),
        (b'{"stream_options":{}', b',"stream":true}', b'{"stream_options":{%b}' % USAGE, b',"stream":true}'),
        (b'{"stream":true', b"", b'{"stream":true', b""),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_large_measured_body(
    proxy: Proxy,
    engine: ScriptedEngine,
    head: bytes,
    tail: bytes,
    received_head: bytes,
    received_tail: bytes,
    *,
    chunked: bool,
) -> None:
    text = b',"x":"' + b"a\\n" * (3 * MIB) + b'"'
    engine.use(lambda turn: turn.stream([delta(finish="stop"), DONE]))
    got = ask(proxy.url, "POST", CHAT, body=[head, text, tail] if chunked else head + text + tail)
    assert got.events[-1] == "[DONE]"
    assert engine.request.body == received_head + text + received_tail
    block = block_of(got)
    assert block["proxy_overhead_ms"] is not None
    assert block["latency_ms"] > 0


def test_an_engine_may_refuse_a_large_measured_body_early(proxy: Proxy, engine: ScriptedEngine) -> None:
    """Whoever reads it to its end answers as any other; here the engine says no at its head and closes."""
    engine.use(lambda turn: turn.json({"error": {"message": "no"}}, status=401))
    got = ask(proxy.url, "POST", CHAT, body=b'{"stream":true,"x":"' + b"a" * MIB + b'"}')
    assert (got.status, got.json) == (401, {"error": {"message": "no"}})


def test_the_default_limit_is_64_mib(proxy: Proxy, engine: ScriptedEngine) -> None:
    got = Call(proxy.url, "POST", CHAT, [("content-length", str(64 * MIB + 1))]).answer()
    assert (got.status, got.error["code"]) == (413, "body_too_large")
    assert engine.requests == []
