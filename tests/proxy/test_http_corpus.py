"""Hostile requests, whole and cut at every offset: what the client gets, and exactly what the engine does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from proxy.client import CHAT, Answer, Wire, ask
from proxy.hostile import CASES, TAIL, Case, Seen
from proxy.processes import Proxy
from proxy.scripted import Request, ScriptedEngine, Turn

#: The two servers; the reference relay behind one of them writes a request in httpx's own way.
pytestmark = pytest.mark.parametrize("stack", ["granian-native", "native"], indirect=True)

HOP_BY_HOP = {
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "x-hop",
}
#: Of a longer request, as many cuts at even distances.
MOST_CUTS = 50
TAIL_SEEN: Seen = ("GET", "/tail", b"")


def accept(turn: Turn) -> None:
    turn.answer(b"ok", 200, [("content-type", "text/plain")])


def expected(case: Case, stack: str, target: str) -> tuple[Case, list[Seen]]:
    """The case as this server sees it, and what the engine gets."""
    case = case.granian if case.granian and stack.startswith("granian") else case
    ends = case.refused_by or case.closes
    seen = [(method, target if path == "/a" else path, body) for method, path, body in case.seen]
    return case, seen if ends else [*seen, TAIL_SEEN]


def check_answers(answers: Sequence[Answer], case: Case, seen: Sequence[Seen]) -> None:
    """Every accepted request has its answer, and the refusal comes last."""
    statuses = [200] * len(seen) + ([case.status] if case.status else [])
    got = [answer.status for answer in answers]
    assert got == statuses or (case.refused_by and not case.status and got == [400]), answers
    if case.refused_by == "fastwrap":
        code = {400: "bad_request", 431: "headers_too_large"}[case.status]
        assert (answers[-1].error["code"], answers[-1].error["type"]) == (code, "invalid_request_error")
    elif case.status:
        assert answers[-1].body == b""


def check_requests(requests: Sequence[Request], seen: Sequence[Seen], host: str, times: int = 1) -> None:
    """The engine got these and no others, each in a form that leaves no doubt."""
    got = Counter((request.method, request.target, request.body) for request in requests)
    assert got == Counter({one: count * times for one, count in Counter(seen).items()})
    for request in requests:
        assert request.all("host") == [host]
        assert len(request.all("content-length") + request.all("transfer-encoding")) <= 1
        assert not HOP_BY_HOP & {name.lower() for name, _ in request.headers}


def parameters(cases: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


@parameters(CASES)
@pytest.mark.parametrize("target", ["/a", CHAT])
def test_whole(proxy: Proxy, engine: ScriptedEngine, stack: str, case: Case, target: str) -> None:
    engine.use(accept)
    host = engine.url.removeprefix("http://")
    wire = Wire(proxy.url)
    wire.send(case.request.replace(b" /a ", b" %b " % target.encode()) + TAIL)
    answers = wire.answers()
    case, seen = expected(case, stack, target)
    check_answers(answers, case, seen)
    check_requests(engine.requests, seen, host)
    assert ask(proxy.url, "GET", "/next").body == b"ok"


@parameters(CASES)
def test_cut(proxy: Proxy, engine: ScriptedEngine, stack: str, case: Case) -> None:
    """All cuts at once: an honest request between the two pieces makes sure that the first was read alone."""
    engine.use(accept)
    host = engine.url.removeprefix("http://")
    data = case.request + TAIL
    cuts = range(1, len(case.request), -(-len(case.request) // MOST_CUTS))
    wires = [Wire(proxy.url) for _ in cuts]
    for wire, cut in zip(wires, cuts, strict=True):
        wire.send(data[:cut])
    assert ask(proxy.url, "GET", "/between").body == b"ok"
    for wire, cut in zip(wires, cuts, strict=True):
        wire.send(data[cut:])
    case, seen = expected(case, stack, "/a")
    for wire in wires:
        check_answers(wire.answers(), case, seen)
    check_requests([one for one in engine.requests if one.target != "/between"], seen, host, len(cuts))
