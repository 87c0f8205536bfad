"""Requests that two parsers might read in two ways, and what must become of each: data for `test_http_corpus.py`.

`GET /tail`, which closes the connection, follows each of them. fastwrap refuses with an OpenAI-style error, and hyper,
under either server, with a bare status. Both close the connection, so that nothing behind is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

#: Method, target and body, as the engine received them.
Seen = tuple[str, str, bytes]

TAIL = b"GET /tail HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked"
HELLO = b"5\r\nhello\r\n0\r\n\r\n"
EMPTY = b"0\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """`seen` is what the engine gets of it; `status` is that of the refusal, 0 if there need be none.

    `refused_by` is empty, `fastwrap` or `hyper`; `granian` is what differs there, for a reason that lies in Granian.
    """

    name: str
    request: bytes
    seen: tuple[Seen, ...] = ()
    status: int = 0
    refused_by: str = ""
    closes: bool = False
    granian: Case | None = None


def post(
    *lines: bytes, body: bytes = b"", line: bytes = b"POST /a HTTP/1.1", host: tuple[bytes, ...] = (b"Host: a",)
) -> bytes:
    return b"\r\n".join([line, *host, *lines, b"", body])


def get(*lines: bytes, line: bytes = b"GET /a HTTP/1.1", host: tuple[bytes, ...] = (b"Host: a",)) -> bytes:
    return post(*lines, line=line, host=host)


def ok(name: str, request: bytes, *seen: Seen, closes: bool = False) -> Case:
    return Case(name, request, seen or (("GET", "/a", b""),), closes=closes)


def hello(name: str, *lines: bytes, body: bytes = b"hello") -> Case:
    return ok(name, post(*lines, body=body), ("POST", "/a", b"hello"))


def hyper(name: str, request: bytes, status: int = 400) -> Case:
    return Case(name, request, (), status, "hyper")


def fastwrap(name: str, request: bytes, granian: Seen | None = None, status: int = 400) -> Case:
    """Refused by fastwrap; `granian` is what the engine gets of it there."""
    case = Case(name, request, (), status, "fastwrap")
    return replace(case, granian=Case(name, request, (granian,))) if granian else case


def _lengths() -> list[Case]:
    return [
        hello("length", b"Content-Length: 5"),
        hello("length twice", b"Content-Length: 5", b"Content-Length: 5"),
        hello("length with zeros", b"Content-Length: 005"),
        *(
            hyper(f"length {value!r}", post(b"Content-Length: " + value, body=b"hello"))
            for value in [
                b"5, 5",
                b"5, 6",
                b"+5",
                b"-5",
                b"5 5",
                b"0x5",
                b"5.0",
                b"",
                b"5\x0b",
                b"18446744073709551621",
            ]
        ),
        hyper("length of 2^64 - 1", post(b"Content-Length: 18446744073709551615", body=b"hello"), 431),
        hyper("lengths that differ", post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello!")),
        hyper("length, space before the colon", post(b"Content-Length : 5", body=b"hello")),
        ok("a request as a body", post(b"Content-Length: 33", body=HIDDEN), ("POST", "/a", HIDDEN)),
        ok("GET with a body", get(b"Content-Length: 33") + HIDDEN, ("GET", "/a", HIDDEN)),
        ok(
            "length 0, and a request",
            post(b"Content-Length: 0", body=HIDDEN),
            ("POST", "/a", b""),
            ("GET", "/hidden", b""),
        ),
        ok("no length, and a request", post(body=HIDDEN), ("POST", "/a", b""), ("GET", "/hidden", b"")),
    ]


def _codings() -> list[Case]:
    """Where both length and coding are given, the coding counts and the connection is closed: RFC 9112, section 6.1."""
    unknown = [b"xchunked", b"identity", b"chunked, identity", b"cow", b'"chunked"', b"chunked;q=1", b"chunked,", b""]
    unreadable = [b"\x0bchunked", b"chunked\x0b", b"chunked\x00", b"\n chunked"]
    layered = [b"gzip, chunked", b"identity, chunked", b"chunked, chunked"]
    nothing = ("POST", "/a", b"")
    return [
        hello("chunked", CHUNKED, body=HELLO),
        hello("CHUNKED", b"Transfer-Encoding: CHUNKED", body=HELLO),
        hello("chunked behind a tab", b"Transfer-Encoding:\tchunked", body=HELLO),
        ok("CL.TE", post(b"Content-Length: 6", CHUNKED, body=EMPTY + b"G"), nothing, closes=True),
        ok("CL.TE, a request behind", post(b"Content-Length: 38", CHUNKED, body=EMPTY + HIDDEN), nothing, closes=True),
        ok(
            "TE.CL",
            post(CHUNKED, b"Content-Length: 4", body=b"21\r\n%b\r\n0\r\n\r\n" % HIDDEN),
            ("POST", "/a", HIDDEN),
            closes=True,
        ),
        *(hyper(f"TE {value!r}", post(b"Transfer-Encoding: " + value, body=HELLO)) for value in unknown + unreadable),
        *(
            hyper(f"CL.TE {value!r}", post(b"Content-Length: 5", b"Transfer-Encoding: " + value, body=EMPTY + HIDDEN))
            for value in unknown + unreadable
        ),
        *(fastwrap(f"TE {value!r}", post(b"Transfer-Encoding: " + value, body=HELLO)) for value in layered),
        fastwrap("TE twice", post(CHUNKED, CHUNKED, body=EMPTY + HIDDEN)),
        fastwrap("TE identity, then chunked", post(b"Transfer-Encoding: identity", CHUNKED, body=EMPTY + HIDDEN)),
        hyper("TE chunked, then identity", post(CHUNKED, b"Transfer-Encoding: identity", body=EMPTY + HIDDEN)),
        hyper("TE, space before the colon", post(b"Transfer-Encoding : chunked", body=EMPTY + HIDDEN)),
        hyper("TE, space before the name", post(b" Transfer-Encoding: chunked", body=EMPTY + HIDDEN)),
        hyper("TE behind a bare CR", post(b"X: a\rTransfer-Encoding: chunked", body=EMPTY + HIDDEN)),
        hyper("TE with HTTP/1.0", post(CHUNKED, line=b"POST /a HTTP/1.0", body=EMPTY + HIDDEN)),
        # A bare LF ends a line (RFC 9112, section 2.2): the engine gets a whole one.
        ok(
            "TE behind a bare LF",
            post(b"X: a\nTransfer-Encoding: chunked", body=EMPTY + HIDDEN),
            nothing,
            ("GET", "/hidden", b""),
        ),
        ok(
            "Transfer_Encoding is another header",
            post(b"Transfer_Encoding: chunked", body=HIDDEN),
            nothing,
            ("GET", "/hidden", b""),
        ),
    ]


def _chunks() -> list[Case]:
    good = {
        "an extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
        "a space behind the size": b"5 \r\nhello\r\n0\r\n\r\n",
        "zeros before the size": b"000000000000000005\r\nhello\r\n0\r\n\r\n",
        "two zeros at the end": b"5\r\nhello\r\n00\r\n\r\n",
        "trailers": b"5\r\nhello\r\n0\r\nHost: evil\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n",
    }
    bad = {
        "LF in an extension": b"5;a\nhello\r\n0\r\n\r\n",
        "LF in a quoted extension": b'5;a="\n"\r\nhello\r\n0\r\n\r\n',
        "an endless extension": b"5;" + b"a" * 20_000 + b"\r\nhello\r\n0\r\n\r\n",
        "LF behind the size": b"5\nhello\r\n0\r\n\r\n",
        "a space before the size": b" 5\r\nhello\r\n0\r\n\r\n",
        "a plus": b"+5\r\nhello\r\n0\r\n\r\n",
        "a minus": b"-5\r\nhello\r\n0\r\n\r\n",
        "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
        "no size": b"\r\nhello\r\n0\r\n\r\n",
        "an Arabic digit": b"\xd9\xa5\r\nhello\r\n0\r\n\r\n",
        "more than 64 bits": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
        "no end of the data": b"5\r\nhello0\r\n\r\n",
        "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
        "CR behind the data": b"5\r\nhello\r0\r\n\r\n",
        "more data than said": b"3\r\nhello\r\n0\r\n\r\n",
        "LF at the end": b"5\r\nhello\r\n0\n\n",
        "a malformed trailer": b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
        "endless trailers": b"5\r\nhello\r\n0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 2000 + b"\r\n",
    }
    return [
        *(hello(f"chunks: {name}", CHUNKED, body=body) for name, body in good.items()),
        *(fastwrap(f"chunks: {name}", post(CHUNKED, body=body)) for name, body in bad.items()),
    ]


def _lines() -> list[Case]:
    refused = {
        "CR for a line's end": b"GET /a HTTP/1.1\rHost: a\r\n\r\n",
        "CR in a value": get(b"X: 1\rY: 2"),
        "CR CR LF": get(b"X: 1\r\r\nY: 2"),
        "a space before the method": b" " + get(),
        "a folded line": get(b"X: 1\r\n 2"),
        "a line folded by a tab": get(b"X: 1\r\n\t2"),
        "NUL in a name": get(b"X\x00: 1"),
        "NUL in a value": get(b"X: 1\x002"),
        "NUL in the target": get(line=b"GET /a\x00b HTTP/1.1"),
        "DEL in a value": get(b"X: 1\x7f2"),
        "space before the colon": get(b"X : 1"),
        "no colon": get(b"X"),
        "no name": get(b": 1"),
        "a space in a name": get(b"X Y: 1"),
        "a name outside ASCII": get(b"X\xc3\xa9: 1"),
        "HTTP/0.9": b"GET /a\r\n",
        "HTTP/1.2": get(line=b"GET /a HTTP/1.2"),
        "HTTP/2.0": get(line=b"GET /a HTTP/2.0"),
        "http/1.1": get(line=b"GET /a http/1.1"),
        "HTTP/11": get(line=b"GET /a HTTP/11"),
        "tabs for spaces": get(line=b"GET\t/a\tHTTP/1.1"),
        "two spaces": get(line=b"GET  /a  HTTP/1.1"),
        "a space in the target": get(line=b"GET /a b HTTP/1.1"),
        "a space at the end": get(line=b"GET /a HTTP/1.1 "),
        "a target outside ASCII and UTF-8": get(line=b"GET /\xe9 HTTP/1.1"),
        "an odd method": get(line=b"G@T /a HTTP/1.1"),
        "a ClientHello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\r\n\r\n",
        "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "noise": bytes(range(128, 256)) + b"\r\n\r\n",
    }
    return [
        *(hyper(name, request) for name, request in refused.items()),
        hyper("more than 100 headers", get(*[b"X-%d: 1" % number for number in range(200)]), 431),
        hyper("600 KB of a header", get(b"X: " + b"a" * 600_000), 431),
        hyper("a target of 70 KB", get(line=b"GET /%b HTTP/1.1" % (b"a" * 70_000)), 414),
        fastwrap("70 KB of a header", get(b"X: " + b"a" * 70_000), status=431),
        fastwrap("a method of 100 bytes", get(line=b"G" * 100 + b" /a HTTP/1.1")),
        Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", refused_by="hyper"),
        ok("lines before", b"\r\n\n" + get()),
        ok("LF for a line's end", b"GET /a HTTP/1.1\nHost: a\nX: 1\n\n"),
        ok(
            "pipelined",
            get() + post(b"Content-Length: 5", body=b"hello") + get(),
            ("GET", "/a", b""),
            ("POST", "/a", b"hello"),
            ("GET", "/a", b""),
        ),
        ok("get", get(line=b"get /a HTTP/1.1"), ("get", "/a", b"")),
    ]


def _hosts() -> list[Case]:
    good = [b"a:80", b"[::1]:80", b"my_engine:8000", b"127.0.0.1", b"a."]
    bad = [
        b"",
        b"a, b",
        b"u@a",
        b"a/b",
        b"a b",
        b"a:b",
        b"a:+1",
        b"[::1",
        b"::1",
        b"http://a",
        b"caf\xc3\xa9",
        b"a\\b",
        b":80",
    ]
    once = b"GET /a HTTP/1.0"
    return [
        *(ok(f"Host {host!r}", get(host=(b"Host: " + host,))) for host in good),
        *(fastwrap(f"Host {host!r}", get(host=(b"Host: " + host,))) for host in bad),
        fastwrap("no Host", get(host=())),
        fastwrap("Host twice", get(host=(b"Host: a", b"Host: a"))),
        fastwrap("Hosts that differ", get(host=(b"Host: a", b"Host: evil"))),
        fastwrap("no Host and a body", post(b"Content-Length: 33", body=HIDDEN, host=())),
        hyper("Host, space before the colon", get(host=(b"Host : a",))),
        ok("HTTP/1.0 without Host", get(line=once, host=()), closes=True),
        ok("HTTP/1.0 with Host", get(line=once), closes=True),
        ok("HTTP/1.0 that stays", get(b"Connection: keep-alive", line=once)),
        fastwrap("HTTP/1.0, Host twice", get(line=once, host=(b"Host: a", b"Host: b"))),
    ]


def _targets() -> list[Case]:
    """Under Granian the absolute form cannot be told from a path: the engine gets the path."""
    kept = ["//evil/a", "///evil", "/a/../../-/healthy", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/a%0d%0aX:%201", "/%zz"]
    kept += ["/%2d/healthy", "/-%2fhealthy", "//-/healthy", "/a\\b", "/@evil", "/:80", "/caf\xc3\xa9", "/a?b?c#d"]
    return [
        *(
            ok(target, get(line=b"GET %b HTTP/1.1" % target.encode("latin-1")), ("GET", target.partition("#")[0], b""))
            for target in kept
        ),
        fastwrap("absolute form", get(line=b"GET http://evil/b HTTP/1.1"), ("GET", "/b", b"")),
        fastwrap("absolute form of Host", get(line=b"GET http://a/b?c HTTP/1.1"), ("GET", "/b?c", b"")),
        fastwrap("absolute form, a user", get(line=b"GET http://u:p@evil/b HTTP/1.1"), ("GET", "/b", b"")),
        fastwrap("absolute form, no path", get(line=b"GET https://evil HTTP/1.1"), ("GET", "/", b"")),
        fastwrap("authority form", get(line=b"GET evil:80 HTTP/1.1")),
        fastwrap("a target without a slash", get(line=b"GET evil HTTP/1.1")),
        fastwrap("CONNECT", get(line=b"CONNECT evil:443 HTTP/1.1")),
        fastwrap("CONNECT and a path", get(line=b"CONNECT /a HTTP/1.1")),
        fastwrap("OPTIONS *", get(line=b"OPTIONS * HTTP/1.1")),
        hyper("a query alone", get(line=b"GET ?a HTTP/1.1")),
        hyper("marks that belong to no target", get(line=b"GET /<>^`{|} HTTP/1.1")),
    ]


def _hops() -> list[Case]:
    return [
        hello("Connection names the length", b"Connection: Content-Length", b"Content-Length: 5"),
        hello("Connection names the coding", b"Connection: Transfer-Encoding", CHUNKED, body=HELLO),
        ok("Connection names Host", get(b"Connection: Host")),
        ok("Connection names X-Hop", get(b"Connection: keep-alive, ,\tx-hop", b'Connection: "x', b"X-Hop: 1")),
        ok("Connection: close", get(b"Connection: close"), closes=True),
        ok(
            "TE, Trailer, Keep-Alive", get(b"TE: trailers", b"Trailer: X", b"Keep-Alive: 1", b"Proxy-Connection: close")
        ),
        ok("Proxy-Authorization", get(b"Proxy-Authorization: Basic dXNlcjpwYXNzd29yZA==")),
        ok(
            "a WebSocket",
            get(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="),
        ),
        ok(
            "h2c",
            get(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"),
        ),
        hello("Expect: 100-continue", b"Expect: 100-continue", b"Content-Length: 5"),
        hello("Expect: anything", b"Expect: anything", b"Content-Length: 5"),
    ]


CASES = [*_lengths(), *_codings(), *_chunks(), *_lines(), *_hosts(), *_targets(), *_hops()]
