"""How things pass the middleware: nothing is changed but what has to be, and no fault of its own breaks an answer."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from fastwrap import gpu, middleware, passage
from fastwrap.passage import App, Message, Receive, Scope, Send
from middleware.asgi import JSON, STREAM, Call, Scripted, ask, body, start, streaming, whole, wrapped
from proxy.blocks import block_of, without_blocks
from proxy.client import Answer
from proxy.scripted import DONE, delta, usage

ANSWER = b'{"id":"c","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}'
EVENTS = [delta("a"), delta("b"), delta(finish="stop"), usage(2), DONE]
STREAMED = b'{"stream":true}'


def run(app: App, call: Call) -> list[Message]:
    asyncio.run(call.run(app))
    return call.sent


def outcomes(app: middleware.PerformanceMiddleware, operation: str = "chat") -> dict[str, int]:
    counted = {outcome: count for name, outcome, count in app.meter.requests() if name == operation}
    assert app.meter.in_flight() == 0
    return {outcome: count for outcome, count in counted.items() if count}


def test_a_chunk_in_which_nothing_changes_is_the_very_object() -> None:
    app = wrapped(inner := streaming(EVENTS))
    sent = run(app, Call([STREAMED]))
    given = [message for message in inner.messages if not isinstance(message, BaseException)]
    assert sent[1] is given[1]
    assert sent[2]["body"] is given[2]["body"]
    assert len(sent) == len(given) - 2  # the last event that has choices waits for what follows, and usage is taken out
    assert outcomes(app) == {"complete": 1}


def test_the_application_is_asked_for_usage() -> None:
    app = wrapped(inner := streaming(EVENTS))
    answer = ask(app, b'{"stream"', b":true}")
    assert json.loads(inner.received)["stream_options"] == {"include_usage": True}
    assert (b"content-length", str(len(inner.received)).encode()) in inner.scope["headers"]
    assert without_blocks(answer.body)[0] == b"".join([*EVENTS[:3], DONE])
    assert block_of(answer)["completion_tokens"] == 2


def test_a_body_that_is_too_large_is_not_read() -> None:
    app = wrapped(inner := streaming(EVENTS), max_body_bytes=20)
    parts = [STREAMED, b" " * 10, b" " * 10, b" "]
    answer = ask(app, *parts)
    assert inner.received == b"".join(parts)
    assert without_blocks(answer.body)[0] == b"".join(EVENTS)
    assert block_of(answer)["outcome"] == "complete"


@pytest.mark.parametrize("place", ["body", "usage", "header", "server-timing", "none"])
def test_the_places_of_a_json_answer(place: str) -> None:
    answer = ask(wrapped(whole(ANSWER), enrich=place))
    assert answer.header("content-length") == str(len(answer.body))
    stripped, blocks = without_blocks(answer.body)
    assert stripped == ANSWER
    assert len(blocks) == (place in ("body", "usage"))
    assert ("performance" in answer.json["usage"]) == (place == "usage")
    assert (answer.header("x-performance-metrics") is None) == (place != "header")
    assert (answer.header("server-timing") is None) == (place != "server-timing")


def test_a_client_may_narrow_them() -> None:
    answer = ask(wrapped(whole(ANSWER), enrich="body,header"), headers=[(b"x-fastwrap-enrich", b"header")])
    assert (answer.body, "latency_ms" in str(answer.header("x-performance-metrics"))) == (ANSWER, True)


def test_a_json_answer_in_pieces() -> None:
    pieces = [body(ANSWER[:9]), body(memoryview(ANSWER)[9:]), body(b"", more=False)]  # type: ignore[arg-type]
    app = wrapped(Scripted([start([*JSON, (b"content-length", b"%d" % len(ANSWER))]), *pieces]))
    answer = ask(app)
    assert without_blocks(answer.body)[0] == ANSWER
    assert answer.header("content-length") == str(len(answer.body))


def test_a_json_answer_over_the_limit_passes_untouched() -> None:
    data = b'{"a":"' + b"x" * (17 << 20) + b'"}'
    headers = [*JSON, (b"etag", b'"x"')]
    parts = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
    answer = ask(app := wrapped(Scripted([start(headers), *map(body, parts), body(b"", more=False)])))
    assert (answer.body, answer.header("etag")) == (data, '"x"')
    assert outcomes(app) == {"complete": 1}


@pytest.mark.parametrize(
    "headers", [[[b"Content-Type", b"application/json"]], ((b"content-type", b"application/json"),)]
)
def test_headers_may_be_any_pairs(headers: Any) -> None:
    app = wrapped(
        Scripted(
            [{"type": "http.response.start", "status": 200, "headers": headers}, {**body(ANSWER), "more_body": False}]
        )
    )
    assert without_blocks(ask(app).body)[0] == ANSWER


def test_headers_of_the_hop_are_the_applications() -> None:
    headers = [*STREAM, (b"connection", b"close"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    answer = ask(wrapped(streaming(EVENTS, headers)), STREAMED)
    assert answer.header("connection") == "close"
    assert answer.all("set-cookie") == ["a=1", "b=2"]


@pytest.mark.parametrize(
    "scope",
    [
        {"type": "websocket", "path": "/v1/chat/completions"},
        {"type": "http", "method": "POST", "path": "/tokenize", "headers": []},
        {"type": "http", "method": "GET", "path": "/v1/chat/completions", "headers": []},
        {"type": "http", "method": "GET", "path": "/metrics", "headers": []},
    ],
)
def test_all_else_is_the_applications_alone(scope: Scope) -> None:
    seen: list[Any] = []

    async def app(*arguments: Any) -> None:
        seen.extend(arguments)

    async def receive() -> Message:
        raise AssertionError

    async def send(_: Message) -> None:
        raise AssertionError

    asyncio.run(wrapped(app)(scope, receive, send))
    assert [one is other for one, other in zip(seen, (scope, receive, send), strict=True)] == [True] * 3


def test_below_a_path() -> None:
    """As a mounted application is called: what lies before it is in ``root_path``."""

    async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "root_path": "/llm"}, receive, send)

    app = wrapped(whole(ANSWER))
    assert block_of(ask(mounted, path="/llm/completions"))
    assert ask(mounted, path="/llm/-/healthy", method="GET").json == {"status": "ok"}


def own(app: App, name: str) -> Answer:
    return ask(app, path=f"/-/{name}", method="GET")


def test_own_routes() -> None:
    app = wrapped(whole(ANSWER))
    ask(app)
    assert b'fastwrap_requests_total{operation="chat",outcome="complete"} 1.0' in own(app, "metrics").body
    assert [own(app, name).status for name in ("healthy", "ready", "nothing")] == [200, 200, 404]
    assert ask(app, path="/-/healthy").error["code"] == "method_not_allowed"
    loading = wrapped(whole(b"", status=503), backend="vllm")
    assert own(loading, "ready").json == {"status": "waiting", "backend": "vllm", "engine": "/health: 503"}
    assert own(wrapped(Scripted([FailedError()])), "ready").status == 500


def test_an_application_that_answers_nothing_is_not_ready() -> None:
    assert own(wrapped(Scripted([])), "ready").json["engine"] == "engine_closed_connection"


class FailedError(RuntimeError):
    """The application's own fault."""


@pytest.mark.parametrize(
    ("messages", "outcome"),
    [
        ([], "error"),
        ([start(JSON)], "error"),
        ([start(JSON), body(ANSWER[:9])], "error"),
        ([start(STREAM), body(EVENTS[0]), body(EVENTS[2]), body(EVENTS[3][:9])], "error"),
        ([start(STREAM), *map(body, EVENTS), body(b"", more=False)], "complete"),
    ],
)
@pytest.mark.parametrize("raises", [True, False])
def test_an_application_that_breaks_off(messages: list[Message], outcome: str, *, raises: bool) -> None:
    """All that it gave goes on, and what it raises is raised."""
    app = wrapped(Scripted([*messages, FailedError("x")] if raises else messages))
    call = Call()
    if raises:
        with pytest.raises(FailedError):
            asyncio.run(call.run(app))
    else:
        asyncio.run(call.run(app))
    assert [message["type"] for message in call.sent[:1]] == ["http.response.start"] * bool(messages)
    given = b"".join(message.get("body", b"") for message in messages)
    assert without_blocks(b"".join(message.get("body", b"") for message in call.sent))[0] == given
    assert call.sent[-1:] == [] or call.sent[-1].get("more_body", True) == (outcome == "error")
    assert outcomes(app) == {outcome: 1}


class Waiting(Scripted):
    """An application that looks whether the client has left, and then says what it still has to say."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(body(b"null", more=False))


@pytest.mark.parametrize("messages", [[start(JSON)], [start(STREAM), body(EVENTS[0])]])
def test_a_client_that_leaves(messages: list[Message]) -> None:
    unread: list[Message] = [{"type": "http.request", "body": b"{}"}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return unread.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    app = wrapped(Waiting(messages))
    asyncio.run(app(Call().scope, receive, send))
    assert outcomes(app) == {"cancelled": 1}
    assert [message["type"].rpartition(".")[2] for message in sent] == ["start", *["body"] * len(messages)]
    assert sent[-1]["body"] == b"null"


def test_a_client_that_leaves_while_it_uploads() -> None:
    app = wrapped(inner := Scripted([]))
    assert run(app, Call([b'{"stream":'], leaves=True)) == []
    assert (inner.received, inner.last) == (b'{"stream":', "http.disconnect")
    assert outcomes(app) == {"cancelled": 1}


def test_a_request_that_is_given_up() -> None:
    begun = asyncio.Event()

    async def never(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send(start(STREAM))
        begun.set()
        await asyncio.Event().wait()

    async def call() -> None:
        given_up = asyncio.ensure_future(Call().run(app))
        await begun.wait()
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up

    app = wrapped(never)
    asyncio.run(call())
    assert outcomes(app) == {"cancelled": 1}


class Broken:
    """In the place of what is native: raises at its call with this number."""

    def __init__(self, inner: Any, name: str, at: int) -> None:
        self._inner, self._name, self._left = inner, name, at

    def __getattr__(self, name: str) -> Any:
        if name == self._name:
            self._left -= 1
            if self._left == 0:
                raise RuntimeError("a fault of fastwrap's own")
        return getattr(self._inner, name)


@pytest.mark.parametrize(("name", "at"), [("request", 1), ("head", 1), *(("body", at) for at in range(1, 7))])
@pytest.mark.parametrize(
    "inner",
    [
        streaming(EVENTS),
        Scripted([start(JSON), body(ANSWER[:9]), *[body(bytes([one])) for one in ANSWER[9:]], body(b"", more=False)]),
    ],
)
def test_a_fault_of_its_own_breaks_no_answer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, inner: Scripted, name: str, at: int
) -> None:
    def breaks(observed: Any, *arguments: Any) -> passage.Passage:
        return passage.Passage(Broken(observed, name, at), *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(middleware, "Passage", breaks)
    app = wrapped(inner)
    answer = ask(app, b"{}")
    given = b"".join(bytes(one["body"]) for one in inner.messages if isinstance(one, dict) and "body" in one)
    assert (without_blocks(answer.body)[0], answer.whole) == (given, True)
    assert app.meter.internal_errors() == 1
    assert outcomes(app) == {"error": 1}
    assert "a request is not measured" in caplog.text


def test_what_cannot_be_read_is_not_measured(caplog: pytest.LogCaptureFixture) -> None:
    app = wrapped(inner := whole(ANSWER))
    assert ask(app, headers=[(b"x y", b"\x00")]).body == ANSWER
    assert (b"x y", b"\x00") in inner.scope["headers"]
    assert app.meter.internal_errors() == 1
    assert "a request is not measured" in caplog.text


def test_lifespan_is_the_applications(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sampled is sampled from then on: once, however many requests there are."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await whole(ANSWER)(scope, receive, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        scope["state"]["x"] = 1
        await Call().run(through)
        await Call().run(through)
        await send({"type": "lifespan.startup.complete"})

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    started: list[Any] = []
    monkeypatch.setattr(gpu, "start_sampler", lambda *arguments: started.append(arguments))
    sent: list[str] = []
    state: dict[str, Any] = {}
    asyncio.run((through := wrapped(app))({"type": "lifespan", "state": state}, receive, send))
    assert (sent, state) == (["lifespan.startup.complete"], {"x": 1})
    assert len(started) == 1
