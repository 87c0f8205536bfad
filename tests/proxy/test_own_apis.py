"""The engines' own APIs: measured in their own form, and read by their own clients."""

from __future__ import annotations

from collections.abc import Callable

import ollama
import pytest

from proxy.blocks import block_of, without_blocks
from proxy.client import post, stream, stream_open
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.recorded import Recorded, cases
from proxy.scripted import ScriptedEngine, Turn

NDJSON = [("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked")]
LINE = b'{"message":{"role":"assistant","content":"a"},"done":false}\n'
LAST = b'{"message":{"role":"assistant","content":""},"done":true,"prompt_eval_count":3,"eval_count":2}\n'


@pytest.fixture
def proxy(served: Serve, engine: ScriptedEngine) -> Proxy:
    return served(engine.url, "--backend", "ollama")


def lines(*pieces: bytes, end: Callable[[Turn], None] = Turn.end) -> Callable[[Turn], None]:
    def answer(turn: Turn) -> None:
        turn.head(200, NDJSON)
        for piece in pieces:
            turn.chunk(piece)
        end(turn)

    return answer


def test_the_last_line_carries_the_block(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lines(LINE, LINE[:20], LINE[20:], LAST))
    with proxy.counts("complete", "generate"):
        answer = stream(proxy.url, "/api/chat")
    left, [block] = without_blocks(answer.body)
    assert left == LINE * 2 + LAST
    assert answer.body.startswith(LINE * 2 + LAST[:-2] + b',"performance":')
    assert (block["prompt_tokens"], block["completion_tokens"], block["chunks"]) == (3, 2, 2)
    assert block["measured_as"] == "stream"
    assert 0 < block["ttft_ms"] <= block["latency_ms"]


def test_ollamas_client_reads_it(proxy: Proxy, engine: ScriptedEngine) -> None:
    client = ollama.Client(proxy.url)
    messages = [ollama.Message(role="user", content="hello world")]
    engine.use(Recorded("ollama", cases("ollama")["native-ollama-chat-stream"]))
    parts = list(client.chat("tiny", messages, stream=True))
    assert "".join(part.message.content or "" for part in parts) == " lazowckS"
    assert (parts[-1].done, parts[-1].eval_count) == (True, 8)
    engine.use(Recorded("ollama", cases("ollama")["native-ollama-generate"]))
    assert client.generate("tiny", "hello").response == "Sow"
    engine.use(Recorded("ollama", cases("ollama")["native-ollama-error-model"]))
    with pytest.raises(ollama.ResponseError, match="not found"):
        list(client.chat("no-such-model", messages, stream=True))


@pytest.mark.parametrize("die", [Turn.close, Turn.reset])
def test_a_client_is_told_of_a_death_between_lines(
    proxy: Proxy, engine: ScriptedEngine, die: Callable[[Turn], None]
) -> None:
    engine.use(lines(LINE, end=die))
    with proxy.counts("error", "generate"):
        call = stream_open(proxy.url, "/api/chat")
        answer = call.answer()
    assert answer.whole
    assert answer.body.startswith(LINE)
    error = answer.without(answer.body.removeprefix(LINE)).json
    assert error == {"error": "The engine closed the connection before its answer was complete."}
    with pytest.raises(ollama.ResponseError, match="closed the connection"):
        list(ollama.Client(proxy.url).chat("tiny", [ollama.Message(role="user", content="a")], stream=True))


def test_a_death_within_a_line_is_no_clean_end(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lines(LINE + LINE[:20], end=Turn.close))
    with proxy.counts("error", "generate"):
        answer = stream(proxy.url, "/api/chat")
    assert not answer.whole
    assert (LINE + LINE[:20]).startswith(answer.body)


def test_a_stream_without_its_last_line_is_incomplete(proxy: Proxy, engine: ScriptedEngine) -> None:
    engine.use(lines(LINE))
    with proxy.counts("incomplete", "generate"):
        answer = stream(proxy.url, "/api/chat")
    assert (answer.body, answer.whole) == (LINE, True)


@pytest.mark.parametrize(
    ("path", "body", "tokens"),
    [
        (
            "/generate",
            b'{"text":"ab","meta_info":{"finish_reason":{"type":"stop"},"prompt_tokens":4,"completion_tokens":2}}',
            2,
        ),
        ("/generate", b'{"generated_text":"ab","details":{"generated_tokens":3}}', 3),
        ("/completion", b'{"content":"ab","stop":true,"tokens_predicted":5,"tokens_evaluated":1}', 5),
        ("/api/generate", b'{"response":"ab","done":true,"eval_count":7}', 7),
    ],
)
def test_a_whole_answer_has_its_counts(
    proxy: Proxy, engine: ScriptedEngine, path: str, body: bytes, tokens: int
) -> None:
    engine.use(lambda turn: turn.answer(body, 200, [("content-type", "application/json")]))
    with proxy.counts("complete", "generate"):
        answer = post(proxy.url, {"prompt": "a"}, path)
    assert without_blocks(answer.body)[0] == body
    assert block_of(answer)["completion_tokens"] == tokens
