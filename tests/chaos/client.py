"""A client that does what its plan says, and looks closely at what it gets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import dataclass

from chaos.plan import Fault, Manner, Plan
from proxy.blocks import without_blocks
from proxy.client import CHAT

_SLOW_S = 0.002
_READ_BYTES = 64 << 10


class BrokenError(Exception):
    """The connection ended before the answer did."""


@dataclass
class Got:
    """What a client has got of an answer.

    Attributes:
        status: 0: nothing.
        body: Without the chunks' framing.
        whole: It ended as HTTP says it should.
    """

    status: int = 0
    body: bytes = b""
    whole: bool = False


async def run(plan: Plan, host: str, port: int) -> str:
    """Make the request; returns what is wrong with the answer, or nothing."""
    reader, writer = await asyncio.open_connection(host, port, limit=_READ_BYTES)
    got = Got()
    try:
        await _send(plan, writer)
        if plan.manner in (Manner.LEAVES_AT_ONCE, Manner.LEAVES_UPLOADING):
            return ""
        with contextlib.suppress(BrokenError, OSError, asyncio.IncompleteReadError):
            await _receive(plan, reader, got)
            got.whole = True
    finally:
        if plan.leaves and plan.reset:
            own: socket.socket = writer.get_extra_info("socket")
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.close()
    return "" if plan.leaves else _amiss(plan, got)


async def _send(plan: Plan, writer: asyncio.StreamWriter) -> None:
    body = plan.request
    head = f"POST {CHAT} HTTP/1.1\r\nhost: chaos\r\nconnection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    sent = body[: len(body) // 2] if plan.manner is Manner.LEAVES_UPLOADING else body
    writer.write(head.encode() + sent)
    await writer.drain()


async def _receive(plan: Plan, reader: asyncio.StreamReader, got: Got) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    got.status = int(head.split()[1])
    if b"\r\ntransfer-encoding: chunked\r\n" in head:
        while size := await _chunk_bytes(reader):
            await _take(plan, reader, size, got)
            await reader.readexactly(2)
        await reader.readexactly(2)
    else:
        await _take(plan, reader, int(head.split(b"\r\ncontent-length: ")[1].split(b"\r\n")[0]), got)


async def _chunk_bytes(reader: asyncio.StreamReader) -> int:
    line = await reader.readuntil(b"\r\n")
    return int(line, 16)


async def _take(plan: Plan, reader: asyncio.StreamReader, size: int, got: Got) -> None:
    while size:
        piece = await reader.read(min(size, 512 if plan.manner is Manner.READS_SLOWLY else _READ_BYTES))
        if not piece:
            raise BrokenError
        size -= len(piece)
        got.body += piece
        if plan.manner is Manner.LEAVES and len(got.body) >= plan.after:
            raise BrokenError
        if plan.manner is Manner.READS_SLOWLY and plan.number % 4 == 0:
            await asyncio.sleep(_SLOW_S)


def _amiss(plan: Plan, got: Got) -> str:
    """Whether it is what it should be."""
    if plan.fault is Fault.ERROR:
        return "" if got.whole and got.status == 500 else f"the engine's error: {got}"
    if plan.fault is Fault.NONE:
        body, blocks = without_blocks(got.body)
        if got.status == 200 and got.whole and body == plan.answer and len(blocks) == 1:
            return ""
        return f"a whole answer: {got.status}, whole: {got.whole}, {len(got.body)} of {len(plan.answer)} bytes"
    if plan.at < 0 or not plan.stream:
        complete = not plan.stream and plan.at == len(plan.answer) and got.status == 200
        wanted = got.status == (504 if plan.fault is Fault.STALL else 502)
        return "" if complete or (wanted and got.whole and "error" in json.loads(got.body)) else f"no answer: {got}"
    return _amiss_broken(plan, got)


def _amiss_broken(plan: Plan, got: Got) -> str:
    """A stream that broke off: what came before is there, and its end is told."""
    if not got.status and not got.whole:
        return ""  # Granian has not written what it was given when the connection was aborted
    body, _ = without_blocks(got.body)
    *_, last = body.rstrip(b"\n").split(b"\n")
    told = last.startswith(b'data: {"error"')
    sent = body[: body.rindex(b"data: ")] if told else body
    if got.status != 200 or not plan.answer.startswith(sent):
        return f"not what the engine sent: {got.status}, {body[-200:]!r}"
    if got.whole and not told and plan.at < len(plan.answer):
        return f"it looks whole: {plan.at} of {len(plan.answer)} bytes were sent"
    return ""
