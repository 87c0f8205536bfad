"""A client that hides nothing: exact bytes, all headers, and whether the answer was whole."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BufferedReader
from typing import Any, ParamSpec
from urllib.parse import urlsplit

DEADLINE_S = 20.0
CHAT = "/v1/chat/completions"
Headers = Sequence[tuple[str, str]]
_P = ParamSpec("_P")


class BrokenOffError(OSError):
    """The connection was closed before the answer's end."""


@dataclass(frozen=True)
class Answer:
    """`whole` is False if the connection broke off before the body's end."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    whole: bool = True

    def header(self, name: str) -> str | None:
        """The header's values, joined; None if it is absent."""
        values = self.all(name)
        return ", ".join(values) if values else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def without(self, body: bytes) -> Answer:
        """The same answer with another body."""
        return replace(self, body=body)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Mapping[str, Any]:
        """The error, checked to be one as OpenAI's clients expect it."""
        error: Mapping[str, Any] = self.json["error"]
        assert error.keys() >= {"message", "type", "code"}, error
        assert isinstance(error["message"], str)
        return error

    @property
    def events(self) -> list[Any]:
        return events(self.body)


def events(body: bytes) -> list[Any]:
    """The data of each event; parsed, where it is JSON."""
    text = body.decode(errors="surrogateescape").replace("\r\n", "\n")
    data = [line.removeprefix("data:").strip() for line in text.split("\n") if line.startswith("data:")]
    return [json.loads(one) if one.startswith("{") else one for one in data]


def connect(url: str, seconds: float) -> tuple[socket.socket, str]:
    """A connection, and what stands in `Host`."""
    address = urlsplit(url)
    if address.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(seconds)
        connection.connect(address.path)
        return connection, "localhost"
    connection = socket.create_connection((address.hostname or "", address.port or 80), timeout=seconds)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if address.scheme == "https":  # trusting SSL_CERT_FILE
        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=address.hostname)
    return connection, address.netloc


class Reading:
    """An answer as it comes."""

    def __init__(self, file: BufferedReader, method: str) -> None:
        self._file = file
        self._method = method
        self._head: tuple[int, list[tuple[str, str]]] | None = None
        self._pieces: Iterator[bytes] | None = None

    @property
    def head(self) -> tuple[int, list[tuple[str, str]]]:
        """Status and headers, when they have come."""
        while self._head is None:
            status = int(self._line().split(b" ")[1])
            headers = []
            while line := self._line():
                name, _, value = line.decode("latin-1").partition(":")
                headers.append((name, value.strip()))
            if status >= 200:
                self._head = status, headers
        return self._head

    @property
    def pieces(self) -> Iterator[bytes]:
        """The body as it comes, without its coding.

        Raises:
            BrokenOffError: If the connection is closed before the body's end.
        """
        if self._pieces is None:
            self._pieces = self._read()
        return self._pieces

    def _read(self) -> Iterator[bytes]:
        status, headers = self.head
        fields = {name.lower(): value for name, value in headers}
        if self._method == "HEAD" or status in (204, 304):
            return
        if fields.get("transfer-encoding") == "chunked":
            while size := int(self._line(), 16):
                yield from self._exactly(size)
                assert self._line() == b""
            assert self._line() == b""
        elif "content-length" in fields:
            yield from self._exactly(int(fields["content-length"]))
        else:
            while piece := self._file.read1(1 << 16):
                yield piece

    def _line(self) -> bytes:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise BrokenOffError
        return line[:-2]

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size:
            piece = self._file.read1(min(size, 1 << 16))
            if not piece:
                raise BrokenOffError
            size -= len(piece)
            yield piece

    def read_until(self, mark: bytes) -> bytes:
        """Read on until the bytes have come."""
        read = b""
        for piece in self.pieces:
            read += piece
            if mark in read:
                return read
        raise AssertionError(f"the answer ended before {mark!r}: {read!r}")

    def answer(self) -> Answer:
        """Read to the end."""
        status, headers = self.head
        body, whole = bytearray(), True
        try:
            for piece in self.pieces:
                body += piece
        except (BrokenOffError, ConnectionError):
            whole = False
        return Answer(status, headers, bytes(body), whole)


class Wire:
    """A connection on which a test writes what it likes."""

    def __init__(self, url: str, seconds: float = DEADLINE_S) -> None:
        self.socket, _ = connect(url, seconds)

    def send(self, data: bytes) -> None:
        """Send bytes; the other side may have closed already."""
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def answers(self) -> list[Answer]:
        """Read all answers, until the other side closes, and close."""
        answers = []
        with self.socket, self.socket.makefile("rb") as file, contextlib.suppress(BrokenOffError, ConnectionError):
            while True:
                answers.append(Reading(file, "GET").answer())
        return answers


class Call(Reading):
    """A request that was sent, and its answer as it comes."""

    def __init__(
        self,
        url: str,
        method: str,
        target: str,
        headers: Headers = (),
        body: bytes | Iterable[bytes] = b"",
        seconds: float = DEADLINE_S,
    ) -> None:
        self.socket, host = connect(url, seconds)
        super().__init__(self.socket.makefile("rb"), method)
        lines = [f"{method} {target} HTTP/1.1"]
        given = {name.lower(): value for name, value in headers}
        if "host" not in given:
            lines.append(f"host: {host}")
        if not isinstance(body, bytes):
            lines.append("transfer-encoding: chunked")
        elif not given.keys() & {"content-length", "transfer-encoding"} and (body or method == "POST"):
            lines.append(f"content-length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in headers]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        if isinstance(body, bytes):
            self.socket.sendall(head + body)
            return
        self.socket.sendall(head)
        for chunk in body:
            self.socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        self.socket.sendall(b"0\r\n\r\n")

    def answer(self) -> Answer:
        """Read to the end, and close."""
        answer = super().answer()
        self.leave()
        return answer

    def leave(self) -> None:
        """Close the connection."""
        self._file.close()
        self.socket.close()


def post_open(
    url: str, value: Any = None, target: str = CHAT, headers: Headers = (), seconds: float = DEADLINE_S
) -> Call:
    """Send a value as JSON, and do not wait for the answer."""
    body = json.dumps({"model": "m", "messages": []} if value is None else value).encode()
    return Call(url, "POST", target, [("content-type", "application/json"), *headers], body, seconds)


def _answered(call: Callable[_P, Call]) -> Callable[_P, Answer]:
    """The same, waiting for the answer."""

    def answered(*arguments: _P.args, **named: _P.kwargs) -> Answer:
        return call(*arguments, **named).answer()

    return answered


#: A request on a connection of its own, and a value as JSON; both read the whole answer.
ask, post = _answered(Call), _answered(post_open)


def stream(url: str, target: str = CHAT, headers: Headers = (), **members: Any) -> Answer:
    """Ask for a stream and read all of it."""
    return post(url, {"model": "m", "messages": [], "stream": True, **members}, target, headers)


def stream_open(url: str, target: str = CHAT, **members: Any) -> Call:
    """Ask for a stream, and do not wait for the answer."""
    return post_open(url, {"model": "m", "messages": [], "stream": True, **members}, target)


def raw(url: str, data: bytes, seconds: float = DEADLINE_S) -> bytes:
    """Send bytes, and read all that comes until the other side closes."""
    address = urlsplit(url)
    with socket.create_connection((address.hostname or "", address.port or 80), timeout=seconds) as connection:
        connection.sendall(data)
        answer = b""
        while piece := connection.recv(1 << 16):
            answer += piece
        return answer
