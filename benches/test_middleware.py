"""What the middleware costs: an application that streams, bare and wrapped, called as an ASGI server does.

Divide by the chunks: the difference of the two is what one chunk costs more, with what is per request in it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import uvloop

from middleware.asgi import STREAM, Call, body, start, wrapped
from proxy.blocks import block_of, without_blocks
from proxy.scripted import DONE, delta, usage

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

    from fastwrap.passage import App, Receive, Scope, Send

_CHUNKS = 1000
_BODY = json.dumps(
    {"model": "tiny", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
).encode()
_EVENTS = [*(delta(f"word {at} ") for at in range(_CHUNKS)), delta(finish="stop"), usage(_CHUNKS), DONE]
_MESSAGES = [start(STREAM), *map(body, _EVENTS), body(b"", more=False)]


async def _streams(_scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    for message in _MESSAGES:
        await send(message)


@pytest.mark.parametrize("app", [_streams, wrapped(_streams)], ids=["bare", "wrapped"])
def test_stream(app: App, benchmark: BenchmarkFixture) -> None:
    loop = uvloop.new_event_loop()

    def ask() -> Call:
        loop.run_until_complete((call := Call([_BODY])).run(app))
        return call

    for call in (ask(), benchmark(ask)):
        stripped, blocks = without_blocks(call.answer.body)
        assert stripped == b"".join(_EVENTS)
        assert len(blocks) == (app is not _streams)
        if blocks:
            assert block_of(call.answer)["chunks"] == _CHUNKS
    benchmark.extra_info["chunks"] = len(_EVENTS)
    loop.close()
