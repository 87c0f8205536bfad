"""What the engine receives is what the client sent."""

from __future__ import annotations

import json

import pytest

from proxy.client import CHAT, ask, post, raw, stream
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.scripted import ScriptedEngine, Turn


def accept(turn: Turn) -> None:
    turn.answer(b"ok", 200, [("content-type", "text/plain")])


BODIES = [
    b'{"model":"m","messages":[]}',
    b' {"n" : 1e400, "a":1, "a":2, "x":"\\ud800\\u00e9", "y": 12345678901234567890123.50}\n',
    b'{"stream":false,"messages":[{"content":"\xf0\x9f\x98\x80"}]}',
    b"not json",
    b"",
    b"[1,2]",
    b'{"stream":true',
    b'{"stream":true,"stream_options":7}',
    b'{"stream":true,"stream_options":{"include_usage":true,"x":[1, 2]}}',
    bytes(range(256)),
]


@pytest.mark.parametrize("body", BODIES)
def test_a_body_passes_byte_for_byte(proxy: Proxy, engine: ScriptedEngine, body: bytes) -> None:
    engine.use(accept)
    assert ask(proxy.url, "POST", CHAT, body=body).body == b"ok"
    assert engine.request.body == body
    assert engine.request.header("content-length") == str(len(body))


@pytest.mark.parametrize(
    ("body", "received"),
    [
        (b'{"stream":true}', b'{"stream":true,"stream_options":{"include_usage":true}}'),
        (
            b'{ "a":1.0e2, "stream" : true ,"stream_options": null }',
            b'{ "a":1.0e2, "stream" : true ,"stream_options": {"include_usage":true} }',
        ),
        (
            b'{"stream":true,"stream_options":{"x": 1}, "z":"\\u00e9"}',
            b'{"stream":true,"stream_options":{"x": 1,"include_usage":true}, "z":"\\u00e9"}',
        ),
        (
            b'{"stream_options":{"include_usage":false},"stream":true}',
            b'{"stream_options":{"include_usage":true},"stream":true}',
        ),
    ],
)
def test_only_stream_options_change(proxy: Proxy, engine: ScriptedEngine, body: bytes, received: bytes) -> None:
    assert ask(proxy.url, "POST", CHAT, body=body).status == 200
    assert engine.request.body == received
    assert engine.request.header("content-length") == str(len(received))


def test_a_chunked_request_arrives(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(accept)
    pieces = [b'{"mod', b'el":', b'"m"}']
    ask(proxy.url, "POST", CHAT, body=pieces)
    ask(proxy.url, "POST", "/v1/files", body=pieces)
    assert [request.body for request in engine.requests] == [b"".join(pieces)] * 2
    assert engine.requests[0].header("content-length") == "13"


@pytest.mark.parametrize("target", [CHAT, "/v1/files"])
def test_headers_pass_but_those_of_the_hop(proxy: Proxy, engine: ScriptedEngine, target: str) -> None:
    engine.use(accept)
    kept = [
        ("Authorization", "Bearer sk-secret"),
        ("User-Agent", "test/1"),
        ("X-Many", "1"),
        ("X-Many", "2"),
        ("Accept", "*/*"),
        ("X-Latin", "caf\xe9"),
        ("X-Empty", ""),
    ]
    hop = [
        ("Connection", "keep-alive, X-Named"),
        ("X-Named", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("TE", "trailers"),
        ("X-Fastwrap-Enrich", "none"),
    ]
    ask(proxy.url, "POST", target, [*kept, *hop], b"{}")
    request = engine.request
    for name in {name for name, _ in kept}:
        assert request.all(name) == [value for key, value in kept if key == name], name
    for name in ("x-named", "keep-alive", "proxy-connection", "te", "x-fastwrap-enrich"):
        assert request.all(name) == [], name
    assert "x-named" not in (request.header("connection") or "").lower()


def test_host_is_the_engines(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(accept)
    headers = [("Host", "evil.example"), ("X-Forwarded-Host", "evil.example")]
    assert ask(proxy.url, "GET", "/v1/models", headers).body == b"ok"
    assert engine.request.all("host") == [engine.url.removeprefix("http://")]


def test_measured_answers_are_asked_for_uncompressed(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(accept)
    for target in (CHAT, "/v1/files"):
        ask(proxy.url, "POST", target, [("Accept-Encoding", "gzip, br")], b"{}")
    assert [request.all("accept-encoding") for request in engine.requests] == [["identity"], ["gzip, br"]]


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models?a=1&b=%20+&c=%2F",
        "/a%2Fb/%E2%82%AC/c%20d;e=f",
        "/v1//models/",
        "/?x",
        "/x/../y/./z",
        "/v1/chat/completions?api-version=2024",
    ],
)
def test_the_target_is_kept(proxy: Proxy, engine: ScriptedEngine, target: str) -> None:
    engine.use(accept)
    assert ask(proxy.url, "POST", target, body=b"{}").body == b"ok"
    assert engine.request.target == target


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "PROPFIND", "BREW"])
@pytest.mark.parametrize("target", [CHAT, "/anything"])
def test_every_method_passes(proxy: Proxy, engine: ScriptedEngine, method: str, target: str) -> None:
    def answer(turn: Turn) -> None:
        turn.head(200, [("content-length", "2"), ("allow", "X")])
        if method != "HEAD":
            turn.write(b"ok")

    engine.use(answer)
    got = ask(proxy.url, method, target)
    assert (got.status, got.header("allow"), got.whole) == (200, "X", True)
    assert got.body == (b"" if method == "HEAD" else b"ok")
    assert engine.request.method == method
    if method == "HEAD":
        assert got.header("content-length") == "2"


def test_only_the_engine_is_contacted(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(accept)
    other = ScriptedEngine()
    authority = other.url.removeprefix("http://")
    for line in (f"GET {other.url}/x HTTP/1.1", f"CONNECT {authority} HTTP/1.1", "OPTIONS * HTTP/1.1"):
        answer = raw(proxy.url, f"{line}\r\nhost: {authority}\r\nconnection: close\r\n\r\n".encode())
        if not line.startswith("GET"):  # Granian tells an application only the path of the absolute form
            assert int(answer.split()[1]) == 400
    assert other.connections == 0
    assert [request.target for request in engine.requests] in (["/x"], [])
    other.close()


def test_the_environments_proxy_is_ignored(serve: Serve, engine: ScriptedEngine) -> None:
    other = ScriptedEngine()
    environment = dict.fromkeys(("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"), other.url)
    proxy = serve(engine.url, env={**environment, "NO_PROXY": "", "no_proxy": ""})
    assert post(proxy.url).status == 200
    assert ask(proxy.url, "GET", "/-/ready").status == 200
    assert other.connections == 0
    other.close()


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 5\r\ncontent-length: 6",
        b"content-length: 5\r\ntransfer-encoding: chunked",
        b"content-length: -1",
        b"content-length: 5, 6",
        b"transfer-encoding: gzip",
        b"transfer-encoding: chunked, identity",
        b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"content-length : 5",
        b"x: a\r\n folded: b\r\ncontent-length: 5",
    ],
)
@pytest.mark.parametrize("target", [b"/v1/files", CHAT.encode()])
def test_nothing_is_smuggled(proxy: Proxy, engine: ScriptedEngine, headers: bytes, target: bytes) -> None:
    """Whatever the head says of the body's end, the engine gets one request or none."""
    engine.use(accept)
    data = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    raw(proxy.url, b"POST %b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n%b\r\n\r\n%b" % (target, headers, data))
    assert [request.target for request in engine.requests] in ([target.decode()], [])
    assert not [request for request in engine.requests if b"smuggled" in request.body]
    assert ask(proxy.url, "GET", "/next").body == b"ok"


def test_sampling_parameters_survive_a_stream(proxy: Proxy, engine: ScriptedEngine) -> None:
    stream(proxy.url, temperature=0.1, seed=2**63, stop=["\n\n", "\u20ac"])
    assert engine.request.json["seed"] == 2**63
    assert json.loads(engine.request.body)["stop"] == ["\n\n", "\u20ac"]
