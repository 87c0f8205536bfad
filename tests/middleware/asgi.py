"""Applications, and a client that calls them as an ASGI server does, message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastwrap.middleware import PerformanceMiddleware
from fastwrap.passage import App, Message, Receive, Scope, Send
from fastwrap.settings import InProcessSettings
from proxy.client import CHAT, Answer
from proxy.processes import DEADLINE_S

JSON = [(b"content-type", b"application/json")]
STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]
Headers = Sequence[tuple[bytes, bytes]]


def wrapped(app: App, **settings: Any) -> PerformanceMiddleware:
    """The application as it is tested: sampled is nothing."""
    return PerformanceMiddleware(app, InProcessSettings(**{"gpu": "off", "engine_samples": "off", **settings}))


def start(headers: Headers, status: int = 200) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


@dataclass
class Scripted:
    """An application that reads the request and sends these messages, and raises what is not one."""

    messages: Iterable[Message | BaseException]
    scope: Scope = field(default_factory=dict)
    received: bytes = b""
    last: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope
        self.received = await self.read(receive)
        for message in self.messages:
            if isinstance(message, BaseException):
                raise message
            await send(message)

    async def read(self, receive: Receive) -> bytes:
        parts, more = [], True
        while more:
            message = await receive()
            self.last = message["type"]
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        return b"".join(parts)


def streaming(pieces: Iterable[bytes], headers: Headers = STREAM) -> Scripted:
    """As Starlette's StreamingResponse sends: the end is a message of its own."""
    return Scripted([start(headers), *map(body, pieces), body(b"", more=False)])


def whole(data: bytes, headers: Headers = JSON, status: int = 200) -> Scripted:
    length = (b"content-length", str(len(data)).encode())
    return Scripted([start([*headers, length], status), body(data, more=False)])


@dataclass
class Call:
    """One request, and all that the application sent."""

    pieces: Sequence[bytes] = (b"{}",)
    path: str = CHAT
    headers: Headers = ()
    leaves: bool = False
    method: str = "POST"
    sent: list[Message] = field(default_factory=list)

    async def run(self, app: App) -> None:
        unread: list[Message] = [
            {"type": "http.request", "body": piece, "more_body": self.leaves or at + 1 < len(self.pieces)}
            for at, piece in enumerate(self.pieces)
        ]
        if self.leaves:
            unread.append({"type": "http.disconnect"})

        async def receive() -> Message:
            if not unread:
                await asyncio.Event().wait()
            return unread.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        await asyncio.wait_for(app(self.scope, receive, send), DEADLINE_S)

    @property
    def scope(self) -> Scope:
        length = (b"content-length", str(sum(map(len, self.pieces))).encode())
        return {
            "type": "http",
            "method": self.method,
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"a"), *JSON, length, *self.headers],
        }

    @property
    def answer(self) -> Answer:
        head, *rest = self.sent
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in head["headers"]]
        data = b"".join(message["body"] for message in rest)
        return Answer(head["status"], headers, data, whole=not rest[-1].get("more_body", False))


def ask(app: App, *pieces: bytes, path: str = CHAT, headers: Headers = (), method: str = "POST") -> Answer:
    """Send a request to an application and return its answer."""
    call = Call(pieces or (b"{}",), path, headers, method=method)
    asyncio.run(call.run(app))
    return call.answer
