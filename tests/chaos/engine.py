"""An engine that does what each request orders: it dies, goes silent, sends half an event."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections import Counter

from chaos.plan import Fault, Plan, ordered, usage_event

_LONGEST_HEAD = 64 << 10


class Engine:
    """Serves on a port of its own.

    Attributes:
        executed: How often each request was executed, by its number.
        connections: How many are open.
        gate: While it is closed, answers stop behind their first piece,
        held: as so many have done.
    """

    def __init__(self) -> None:
        self.executed: Counter[int] = Counter()
        self.connections = 0
        self.gate, self.held = asyncio.Event(), 0
        self.gate.set()
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the URL."""
        self._server = await asyncio.start_server(self._converse, "127.0.0.1", 0, limit=_LONGEST_HEAD, backlog=4096)
        port = self._server.sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    async def stop(self) -> None:
        """Listen no more."""
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked has left
        finally:
            self.connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection may serve another one."""
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):  # fastwrap asks who is there
            writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
            return True
        body = await _body(head.lower(), reader)
        plan = ordered(body)
        self.executed[plan.number] += 1
        return await _Answer(self, plan, b'"include_usage"' in body, reader, writer).send()


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if b"\r\ntransfer-encoding: chunked\r\n" not in head:
        length = head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]
        return await reader.readexactly(int(length))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


class _Answer:
    def __init__(
        self, engine: Engine, plan: Plan, usage: bool, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.engine, self.plan, self.usage = engine, plan, usage
        self.reader, self.writer = reader, writer

    async def send(self) -> bool:
        plan = self.plan
        if plan.fault is Fault.ERROR:
            error = json.dumps({"error": {"message": "no", "type": "server_error", "code": 500}}).encode()
            self.writer.write(b"HTTP/1.1 500 Oops\r\n" + _json_head(len(error)) + error)
            await self.writer.drain()
            return True
        if plan.fault is not Fault.NONE and plan.at < 0:
            return await self.break_off()
        body = plan.answer
        if plan.stream:
            self.writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            )
        else:
            self.writer.write(b"HTTP/1.1 200 OK\r\n" + _json_head(len(body)))
        return await self.send_body(body)

    async def send_body(self, body: bytes) -> bool:
        plan = self.plan
        end = len(body) if plan.fault is Fault.NONE else plan.at
        # The pieces fall where they may: in the middle of events and of characters.
        step = max(1, len(body) // (len(plan.texts) + 1))
        for start in range(0, end, step):
            self.write(body[start : min(start + step, end)])
            await self.writer.drain()
            if not self.engine.gate.is_set():
                self.engine.held += 1
                await self.engine.gate.wait()
            if plan.gap_s:
                await asyncio.sleep(plan.gap_s)
        if plan.fault is not Fault.NONE:
            return await self.break_off()
        if plan.stream:
            self.writer.write(b"0\r\n\r\n")
            await self.writer.drain()
        return True

    def write(self, piece: bytes) -> None:
        if not self.plan.stream:
            self.writer.write(piece)
            return
        done = b"data: [DONE]\n\n"
        if self.usage and piece.endswith(done):
            piece = piece.removesuffix(done) + usage_event(self.plan.number) + done
        self.writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    async def break_off(self) -> bool:
        if self.plan.fault is Fault.STALL:
            # Until whoever asked has had enough.
            with contextlib.suppress(OSError):
                assert not await self.reader.read(1)
            return False
        if self.plan.fault is Fault.RESET:
            own: socket.socket = self.writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False


def _json_head(length: int) -> bytes:
    return b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % length
