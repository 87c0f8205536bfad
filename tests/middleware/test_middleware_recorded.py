"""Every recorded answer of every engine, given by an application, comes out as it was, plus the block."""

from __future__ import annotations

import asyncio

import pytest

from fastwrap.passage import App, Receive, Scope, Send
from middleware.asgi import Call, Scripted, ask, body, start, streaming, wrapped
from proxy.blocks import cut_out
from proxy.client import Answer
from proxy.recorded import FOLDERS, Case, Recorded, cases, check_through
from proxy.test_recorded import ALL

#: Of each way to end: `[DONE]` behind usage, and an event of its own.
CUT = [("vllm", "chat-stream"), ("vllm", "messages-stream")]


class Engine(Scripted):
    """Answers as the recorded engine does."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__([])
        self.recorded = recorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.received = await self.read(receive)
        case = self.recorded.find(scope["path"], self.received)
        headers = [(name.encode(), value.encode()) for name, value in case.headers]
        pieces = self.recorded.cut(case.body) if case.is_stream else [case.body]
        if not case.is_stream:
            headers.append((b"content-length", str(len(case.body)).encode()))
        for message in (start(headers, case.status), *map(body, pieces), body(b"", more=False)):
            await send(message)


def send(app: App, case: Case) -> Answer:
    return ask(app, case.request, path=case.path)


@pytest.mark.parametrize(("folder", "name"), ALL)
def test_the_answer_is_the_applications(folder: str, name: str) -> None:
    case = cases(folder)[name]
    engine = Engine(recorded := Recorded(folder, case))
    direct = send(engine, case)
    through = send(app := wrapped(engine, backend=FOLDERS[folder]), case)
    check_through(recorded, direct, through, engine.received)
    assert app.meter.in_flight() == app.meter.internal_errors() == 0


@pytest.mark.parametrize(("folder", "name"), CUT)
def test_every_cut_gives_the_same_bytes(folder: str, name: str) -> None:
    case = cases(folder)[name]
    # The body as an engine sends it that was asked for usage.
    sent = cases(folder).get(f"{name}-usage", case).body

    async def cut_everywhere() -> set[bytes]:
        bodies = set()
        for at in range(len(sent) + 1):
            app = wrapped(streaming([piece for piece in (sent[:at], sent[at:]) if piece]), backend=FOLDERS[folder])
            await (call := Call([case.request], case.path)).run(app)
            stripped, blocks = cut_out(call.answer.body)
            assert len(blocks) == 1
            assert b"" not in [message["body"] for message in call.sent[1:-1]], "an empty part is an end to some"
            bodies.add(stripped)
        return bodies

    assert len(asyncio.run(cut_everywhere())) == 1
