"""An engine whose every byte, pause and death a test decides: raw sockets, a thread a connection."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEADLINE_S = 20.0
_LINGER_0 = struct.pack("ii", 1, 0)
Headers = Sequence[tuple[str, str]]


class Left(Exception):  # noqa: N818 (it is no error of the test's)
    """The other side closed the connection."""


@dataclass
class Request:
    """What the engine received; `body` only once it was read."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    connection: int
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return ", ".join(values) if values else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def asks_for_usage(self) -> bool:
        return bool((self.json.get("stream_options") or {}).get("include_usage"))


@dataclass
class Turn:
    """One request to answer: a script writes, waits and closes as it likes."""

    request: Request
    socket: socket.socket
    _rest: bytearray
    closed: bool = field(default=False)

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self, status: int = 200, headers: Headers = (), reason: str = "X") -> None:
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        self.write("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")

    def begin_stream(self, headers: Headers = ()) -> None:
        content_type = ("content-type", "text/event-stream")
        self.head(200, [content_type, *headers, ("transfer-encoding", "chunked")])

    def chunk(self, data: bytes) -> None:
        self.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        self.write(b"0\r\n\r\n")

    def answer(self, body: bytes, status: int = 200, headers: Headers = ()) -> None:
        self.head(status, [*headers, ("content-length", str(len(body)))])
        self.write(body)

    def json(self, value: Any, status: int = 200, headers: Headers = ()) -> None:
        self.answer(json.dumps(value).encode(), status, [("content-type", "application/json"), *headers])

    def stream(self, pieces: Iterable[bytes], headers: Headers = ()) -> None:
        self.begin_stream(headers)
        for piece in pieces:
            self.chunk(piece)
        self.end()

    def pause(self, seconds: float) -> None:
        """Let time pass, unless the other side leaves."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            if not self.socket.recv(1):
                raise Left
        self.socket.settimeout(DEADLINE_S)

    def close(self) -> None:
        self.closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_0)
        self.closed = True
        self.socket.close()

    def wait_closed(self, *, uploads: bool = False) -> float:
        """Wait until the other side closes, which sends no more unless it uploads; the monotonic time when it did."""
        with contextlib.suppress(ConnectionError):
            while piece := self.socket.recv(1 << 16):
                assert uploads, f"more was sent: {piece!r}"
        self.close()
        return time.monotonic()

    def read_body(self) -> bytes:
        """The request's body; every script but one of an engine that does not read gets it read."""
        if self.request.header("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._line(), 16):
                body += self._exactly(size)
                self._line()
            self._line()
        else:
            body = self._exactly(int(self.request.header("content-length") or 0))
        self.request.body = body
        return body

    def _line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._more()
        at = self._rest.index(b"\r\n")
        line = bytes(self._rest[:at])
        del self._rest[: at + 2]
        return line

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            self._more()
        data = bytes(self._rest[:size])
        del self._rest[:size]
        return data

    def _more(self) -> None:
        piece = self.socket.recv(1 << 18)
        if not piece:
            raise Left
        self._rest += piece


Script = Callable[[Turn], object]


def delta(content: str | None = None, finish: str | None = None, index: int = 0, **members: Any) -> bytes:
    """An event of a chat stream."""
    text = {} if content is None else {"content": content}
    choice = {"index": index, "delta": {**text, **members}, "finish_reason": finish}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [choice]})


def usage(completion: int, prompt: int = 3) -> bytes:
    """The usage event of a chat stream."""
    counts = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return event({"id": "c", "object": "chat.completion.chunk", "choices": [], "usage": counts})


def event(value: Any) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chat_events(request: Request, words: Sequence[str] = ("a", "b", "c")) -> list[bytes]:
    """A whole stream, with usage where the request asks for it."""
    counted = [usage(len(words))] if request.asks_for_usage else []
    return [delta("", role="assistant"), *(delta(word) for word in words), delta(finish="stop"), *counted, DONE]


def chat(turn: Turn) -> None:
    """Answer like an engine that knows only chats."""
    if turn.request.method != "POST":
        turn.json({"detail": "Not Found"}, 404)
    elif turn.request.json.get("stream"):
        turn.stream(chat_events(turn.request))
    else:
        message = {"role": "assistant", "content": "abc"}
        counts = {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
        turn.json({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": counts})


class Endless:
    """Begins a stream that lasts until the other side closes."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def __call__(self, turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        turn.wait_closed()
        self.closed.set()


def no_metrics(turn: Turn) -> None:
    turn.json({"detail": "Not Found"}, 404)


def whole(body: bytes, headers: Headers = ()) -> Script:
    """Answer with a body."""
    return lambda turn: turn.answer(body, 200, headers)


def streams(pieces: Sequence[bytes]) -> Script:
    """Answer with a stream that comes in these pieces."""
    return lambda turn: turn.stream(pieces)


class ScriptedEngine:
    """Listens; answers every request by the script that is set when it arrives.

    `/health` is always well, and `/metrics` is answered by `metrics`: both are no requests of a test's.
    """

    def __init__(self, path: Path | None = None, tls: ssl.SSLContext | None = None, *, listens: bool = True) -> None:
        self.script: Script = chat
        self.metrics: Script = no_metrics
        self.reads_bodies = True
        self.requests: list[Request] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        self._tls = tls
        self._sockets: list[socket.socket] = []
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(str(path) if path else ("127.0.0.1", 0))
        if path:
            self.url = f"unix:{path}"
        else:
            self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._listener.getsockname()[1]}"
        if listens:
            self.listen()

    def listen(self) -> None:
        self._listener.listen(256)
        threading.Thread(target=self._accept, daemon=True).start()

    def use(self, script: Script) -> None:
        """Answer by this script from now on, and forget what was received."""
        self.script = script
        self.metrics = no_metrics
        self.requests.clear()
        self.failures.clear()

    @property
    def request(self) -> Request:
        """The one request that arrived."""
        assert len(self.requests) == 1, self.requests
        return self.requests[0]

    def close(self) -> None:
        for one in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(client, self.connections), daemon=True).start()

    def _serve(self, client: socket.socket, number: int) -> None:
        with client, contextlib.suppress(OSError, Left):
            client.settimeout(DEADLINE_S)
            if client.family != socket.AF_UNIX:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            speaking = self._tls.wrap_socket(client, server_side=True) if self._tls else client
            self._sockets.append(speaking)
            rest = bytearray()
            while self._turn(speaking, rest, number):
                pass

    def _turn(self, client: socket.socket, rest: bytearray, number: int) -> bool:
        turn = Turn(Request("", "", [], number), client, rest)
        turn.request.method, turn.request.target, _ = turn._line().decode("latin-1").split(" ")  # noqa: SLF001
        while line := turn._line():  # noqa: SLF001
            name, _, value = line.decode("latin-1").partition(":")
            turn.request.headers.append((name, value.strip()))
        if turn.request.target == "/health":
            turn.json({})
            return True
        if turn.request.target == "/metrics":
            self.metrics(turn)
            return not turn.closed
        if self.reads_bodies:
            turn.read_body()
        self.requests.append(turn.request)
        try:
            self.script(turn)
        except (OSError, Left):
            raise
        except Exception as failure:  # noqa: BLE001 (a script's assertion fails the test)
            self.failures.append(failure)
            return False
        return not turn.closed
