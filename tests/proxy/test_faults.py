"""An engine that fails: the client is told once and truly, each request has one outcome, and fastwrap goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from proxy.blocks import without_blocks
from proxy.client import CHAT, ask, post, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta, event

START = delta("", role="assistant") + delta("a")
JSON = [("content-type", "application/json")]


@pytest.fixture(autouse=True)
def healthy_afterwards(proxy: Proxy, engine: ScriptedEngine) -> Iterator[None]:
    """Whatever happened, the next request works."""
    yield
    engine.use(chat)
    assert ask(proxy.url, "GET", "/-/healthy").status == 200
    assert stream(proxy.url).events[-1] == "[DONE]"


def test_the_engine_is_down(served: Serve) -> None:
    engine = ScriptedEngine(listens=False)
    proxy = served(engine.url, "--backend", "vllm")
    with proxy.counts("error", requests=2):
        for answer in (post(proxy.url), stream(proxy.url)):
            assert (answer.status, answer.error["code"]) == (502, "engine_unreachable")
            assert answer.error["type"] == "upstream_error"
    assert ask(proxy.url, "GET", "/-/healthy").status == 200
    engine.listen()
    assert stream(proxy.url).events[-1] == "[DONE]"
    engine.close()


@pytest.mark.parametrize("die", [Turn.close, Turn.reset])
@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\ncontent-ty", b"garbage\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n"])
def test_it_dies_before_its_answer(
    proxy: Proxy, engine: ScriptedEngine, die: Callable[[Turn], None], first: bytes
) -> None:
    def answer(turn: Turn) -> None:
        turn.write(first)
        die(turn)

    engine.use(answer)
    with proxy.counts("error"):
        got = stream(proxy.url)
    assert (got.status, got.error["code"]) == (502, "engine_closed_connection")
    assert len(engine.requests) == 1, "a POST was sent twice"


@pytest.mark.parametrize("die", [Turn.close, Turn.reset])
def test_it_dies_between_events(proxy: Proxy, engine: ScriptedEngine, die: Callable[[Turn], None]) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START)
        go.wait(20)
        die(turn)

    go = threading.Event()
    engine.use(answer)
    with proxy.counts("error"):
        call = stream_open(proxy.url)
        first = call.read_until(b'"a"')
        go.set()
        rest = call.answer()
    assert first == START
    assert rest.whole
    assert [one["error"]["code"] for one in rest.events] == ["engine_closed_connection"]
    assert rest.body.endswith(b"}\n\n")
    assert without_blocks(rest.body)[1] == []


@pytest.mark.parametrize("cut", [1, 10, len(START) - 1])
def test_it_dies_inside_an_event(proxy: Proxy, engine: ScriptedEngine, cut: int) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START[:cut])
        turn.close()

    engine.use(answer)
    with proxy.counts("error"):
        got = stream(proxy.url)
    assert not got.whole, "a truncated answer looks like a whole one"
    assert START[:cut].startswith(got.body)  # an abort may overtake the last bytes


def test_an_answer_that_breaks_off_is_no_error_of_fastwraps(serve: Serve, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START + b'data: {"choi')
        turn.close()

    engine.use(answer)
    proxy = serve(engine.url, "--backend", "vllm")
    with proxy.counts("error"):
        assert not stream(proxy.url).whole
    proxy.stop()
    assert "Traceback" not in proxy.log
    assert "exception" not in proxy.log


def test_it_dies_after_the_last_text(proxy: Proxy, engine: ScriptedEngine) -> None:
    """The held event must not be lost, and is no answer's end."""
    body = START + delta(finish="stop")

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(body)
        turn.close()

    engine.use(answer)
    with proxy.counts("error"):
        got = stream(proxy.url)
    assert got.body.startswith(body)
    assert got.events[-1]["error"]["code"] == "engine_closed_connection"


def test_its_chunks_are_malformed(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START)
        turn.write(b"zz\r\n")
        turn.wait_closed()

    engine.use(answer)
    with proxy.counts("error"):
        got = stream(proxy.url)
    assert got.body.startswith(START)
    assert got.events[-1]["error"]["code"] == "engine_closed_connection"


def test_it_dies_in_a_json_body(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.head(200, [*JSON, ("content-length", "100")])
        turn.write(b'{"id":')
        turn.close()

    engine.use(answer)
    with proxy.counts("error"):
        got = post(proxy.url)
    assert (got.status, got.error["code"]) == (502, "engine_closed_connection")
    with proxy.counts("error"):
        got = post(proxy.url, headers=[("x-fastwrap-enrich", "none")])
    assert (got.status, got.whole, got.body) == (200, False, b'{"id":')


def test_it_dies_in_a_body_that_is_not_measured(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.head(200, [("transfer-encoding", "chunked")])
        turn.chunk(b"some")
        turn.close()

    engine.use(answer)
    with proxy.counts("error", "other"):
        got = ask(proxy.url, "GET", "/file")
    assert (got.status, got.whole, got.body) == (200, False, b"some")


@pytest.mark.parametrize(
    "error",
    [
        event({"error": {"message": "out of memory", "type": "x", "code": 500}}) + DONE,
        event({"error": "just text"}),
        b'data: {"error": "text that is "not" escaped"}\n\n',
        event({"object": "error", "code": 400, "message": "flat"}) + DONE,
        b'{"error":{"message":"a raw tail","code":500}}',
    ],
)
def test_an_error_inside_a_stream_is_the_engines(proxy: Proxy, engine: ScriptedEngine, error: bytes) -> None:
    engine.use(lambda turn: turn.stream([START, error]))
    with proxy.counts("error"):
        got = stream(proxy.url)
    assert got.body == START + error
    assert got.whole


def test_a_stream_without_its_done(proxy: Proxy, engine: ScriptedEngine) -> None:
    body = START + delta(finish="stop")
    engine.use(lambda turn: turn.stream([body]))
    with proxy.counts("incomplete"):
        got = stream(proxy.url)
    stripped, blocks = without_blocks(got.body)
    assert (stripped, got.whole) == (body, True)
    assert [block["outcome"] for block in blocks] == ["incomplete"]


def test_an_error_in_200_json(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lambda turn: turn.json({"error": {"message": "m"}}))
    with proxy.counts("error"):
        assert post(proxy.url).json["error"] == {"message": "m"}


def test_an_idle_connection_that_closed(proxy: Proxy, engine: ScriptedEngine) -> None:
    """The next POST goes over a new connection, and is executed once."""
    closed = threading.Semaphore(0)

    def answer(turn: Turn) -> None:
        chat(turn)
        turn.close()
        closed.release()

    engine.use(answer)
    with proxy.counts("complete", requests=20):
        for number in range(20):
            assert (stream if number % 2 else post)(proxy.url).status == 200
            assert closed.acquire(timeout=20)
    assert len(engine.requests) == 20


def test_a_reused_connection_that_dies_is_not_tried_again(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(chat)
    assert post(proxy.url).status == 200
    engine.use(Turn.reset)
    with proxy.counts("error"):
        assert post(proxy.url).status == 502
    assert len(engine.requests) == 1


def test_many_failures_leave_nothing_behind(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START)
        turn.reset()

    engine.use(answer)
    with proxy.counts("error", requests=50):
        for _ in range(50):
            assert stream(proxy.url).events[-1]["error"]
    assert proxy.in_flight == 0


def test_the_path_is_unknown_to_the_engine(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lambda turn: turn.json({"detail": "Not Found"}, 404))
    with proxy.counts("error", "other"):
        got = ask(proxy.url, "POST", "/v1/nonsense", body=b"{}")
    assert (got.status, got.json) == (404, {"detail": "Not Found"})


def test_no_secret_is_logged(serve: Serve, engine: ScriptedEngine) -> None:
    proxy = serve(engine.url, "--log-level", "debug")

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(START[:10])
        turn.close()

    engine.use(answer)
    secret = [("authorization", "Bearer sk-topsecret"), ("x-api-key", "sk-topsecret")]
    for _ in range(3):
        stream(proxy.url, headers=secret, prompt="sk-topsecret")
        ask(proxy.url, "POST", CHAT + "?key=sk-topsecret", secret, b"sk-topsecret")
    metrics = ask(proxy.url, "GET", "/-/metrics").body
    proxy.stop()
    assert "sk-topsecret" not in proxy.log + metrics.decode()
