"""Engines that have only an API of their own, for clients of OpenAI's: `--translate-chat`."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import openai
import pytest

from fastwrap.app import Application
from fastwrap.settings import Settings
from fastwrap.translations import NAMES, translation
from fastwrap.translations.answer import Writer
from fastwrap.translations.base import Chat, Message
from proxy.blocks import block_of, without_blocks
from proxy.client import CHAT, ask, post, post_open, stream, stream_open
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.recorded import Recorded, cases, told
from proxy.scripted import ScriptedEngine, Turn, event
from proxy.test_mounting import uvicorn_serves
from proxy.test_own_faults import Served

Start = Callable[[str, str], Served]
USER: Any = [{"role": "user", "content": "hello"}]
PAGE = (Path(__file__).parents[2] / "docs" / "translation.md").read_text(encoding="utf-8")
PROMPT = "User: hello\nAssistant:"


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """Serves the application in this process, once for each upstream and translation."""
    running: dict[str, Served] = {}
    with ExitStack() as stack:

        def begin(url: str, name: str) -> Served:
            if name not in running:
                backend: Any = name if name in NAMES else "openai"
                app = Application(Settings(upstream=url, backend=backend, translate_chat=name, gpu="off"))
                running[name] = Served(stack.enter_context(uvicorn_serves(app, "on")))
            return running[name]

        yield begin


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served_here(start: Start, engine: ScriptedEngine, name: str) -> Served:
    return start(engine.url, name)


@pytest.fixture
def llamacpp(start: Start, engine: ScriptedEngine) -> Served:
    return start(engine.url, "llamacpp")


STREAMS = {
    "llamacpp": cases("llamacpp")["native-llamacpp-completion-stream"],
    "sglang": cases("sglang")["native-sglang-generate-stream"],
    "tgi": cases("tgi")["native-tgi-generate-stream-details"],
}
TEXTS = {"llamacpp": "n" * 8, "sglang": "\ufffd" * 8, "tgi": "ssR\ufffdT ov ov ov"}
#: Prompt and completion tokens.
COUNTS = {"llamacpp": (2, 8), "sglang": (2, 8), "tgi": (5, 8)}
_DETAILS = {"finish_reason": "length", "generated_tokens": 8, "input_length": 5}
ANSWERS = {
    "llamacpp": cases("llamacpp")["native-llamacpp-completion"].body,
    "sglang": cases("sglang")["native-sglang-generate"].body,
    "tgi": json.dumps({"generated_text": TEXTS["tgi"], "details": _DETAILS}).encode(),
}
PART = {"content": "a", "stop": False}
LAST = {"content": "", "stop": True, "stop_type": "eos", "tokens_evaluated": 3, "tokens_predicted": 1}


def without_template(script: Callable[[Turn], object]) -> Callable[[Turn], None]:
    """Answer as a llama.cpp that has no `/apply-template`."""

    def answer(turn: Turn) -> None:
        if turn.request.target == "/apply-template":
            turn.json({"error": {"code": 404, "message": "File Not Found", "type": "not_found_error"}}, 404)
        else:
            script(turn)

    return answer


def events_of(*values: Any, end: Callable[[Turn], None] = Turn.end) -> Callable[[Turn], None]:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        for value in values:
            turn.chunk(event(value))
        end(turn)

    return without_template(answer)


def answers(body: bytes, status: int = 200, kind: str = "application/json") -> Callable[[Turn], None]:
    return without_template(lambda turn: turn.answer(body, status, [("content-type", kind)]))


def test_the_engine_gets_a_request_of_its_own(served_here: Served, engine: ScriptedEngine, name: str) -> None:
    engine.use(answers(ANSWERS[name]))
    asked = {"max_completion_tokens": 5, "temperature": 0, "top_p": 1, "stop": "x", "seed": 7, "n": 1, "tools": []}
    system = [{"role": "developer", "content": [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]}]
    assert post(served_here.url, {"model": "m", "messages": system + USER, "user": None, **asked}).status == 200
    prompt = f"System: Be brief.\n{PROMPT}"
    got = engine.requests[-1]
    assert got.header("content-type") == "application/json"
    assert (got.target, got.json) == {
        "llamacpp": (
            "/completion",
            {
                "prompt": prompt, "stream": False,
                "n_predict": 5, "temperature": 0, "top_p": 1, "stop": ["x"], "seed": 7,
            },
        ),
        "sglang": (
            "/generate",
            {
                "text": prompt, "stream": False,
                "sampling_params": {
                    "max_new_tokens": 5, "temperature": 0, "top_p": 1, "stop": ["x"], "sampling_seed": 7,
                },
            },
        ),
        "tgi": (
            "/generate",
            {
                "inputs": prompt,
                "parameters": {
                    "max_new_tokens": 5, "stop": ["x"], "seed": 7,
                    "details": True, "do_sample": False, "return_full_text": False,
                },
            },
        ),
    }[name]  # fmt: skip


def test_the_models_own_template_makes_the_prompt(llamacpp: Served, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        is_template = turn.request.target == "/apply-template"
        turn.json({"prompt": "<|user|>hello"} if is_template else LAST)

    engine.use(answer)
    with llamacpp.counts("complete"):
        assert post(llamacpp.url, {"model": "m", "messages": USER}).status == 200
    assert [(one.target, one.json.get("prompt")) for one in engine.requests] == [
        ("/apply-template", None),
        ("/completion", "<|user|>hello"),
    ]
    assert engine.requests[0].json == {"messages": USER}


def test_a_whole_answer(served_here: Served, engine: ScriptedEngine, name: str) -> None:
    engine.use(answers(ANSWERS[name]))
    with served_here.counts("complete"):
        answer = post(served_here.url, {"model": "m", "messages": USER, "max_tokens": 8})
    said = answer.json
    assert (said["object"], said["model"]) == ("chat.completion", "m")
    [choice] = said["choices"]
    assert choice["message"] == {"role": "assistant", "content": TEXTS[name]}
    assert choice["finish_reason"] == "length"
    block = block_of(answer)
    for counts in (said["usage"], block):
        assert (counts["prompt_tokens"], counts["completion_tokens"]) == COUNTS[name]
    assert (block["backend"], block["measured_as"]) == (name, "json")
    assert ("generation_ms" in (block["engine"] or {})) == (name == "llamacpp")
    assert int(answer.header("content-length") or 0) == len(answer.body)


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream(served_here: Served, engine: ScriptedEngine, name: str, usage: bool) -> None:
    case = STREAMS[name]
    engine.use(without_template(lambda turn: turn.stream(Recorded(name, case).cut(case.body))))
    with served_here.counts("complete"):
        answer = stream(served_here.url, messages=USER, stream_options={"include_usage": usage})
    assert answer.header("content-type") == "text/event-stream"
    assert told(answer) == {0: TEXTS[name]}
    *chunks, done = answer.events
    assert done == "[DONE]"
    assert {one["object"] for one in chunks} == {"chat.completion.chunk"}
    assert len({one["id"] for one in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert [one["choices"][0]["finish_reason"] for one in chunks if one["choices"]][-2:] == [None, "length"]
    assert [one["choices"] for one in chunks if "usage" in one] == [[]] * usage
    block = block_of(answer)
    assert (block["prompt_tokens"], block["completion_tokens"]) == COUNTS[name]
    assert 0 < block["ttft_ms"] <= block["latency_ms"]
    assert block["chunks"] == sum(bool(one["choices"] and one["choices"][0]["delta"].get("content")) for one in chunks)


def test_a_stream_is_the_same_however_it_is_cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastwrap.translations.answer.uuid.uuid4", lambda: type("Id", (), {"hex": "1"}))
    monkeypatch.setattr("fastwrap.translations.answer.time.time", lambda: 1.0)
    body = STREAMS[name].body

    def written(*pieces: bytes) -> bytes:
        chat = Chat(model="m", messages=(Message("user", "hello"),), stream=True, include_usage=True)
        writer = Writer(chat, translation(name)(chat))
        return b"".join(map(writer.chunks, pieces)) + writer.end()

    whole = written(body)
    assert whole.endswith(b"data: [DONE]\n\n")
    assert written(*(body[at : at + 1] for at in range(len(body)))) == whole
    assert written(body.replace(b"\n", b"\r\n")) == whole
    for at in range(0, len(body), 7):
        assert written(body[:at], body[at:]) == whole, at


def test_times_are_those_of_the_engines_bytes(llamacpp: Served, engine: ScriptedEngine) -> None:
    read = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(event(PART))
        assert read.wait(DEADLINE_S)
        turn.pause(0.1)
        turn.chunk(event(PART) + event(LAST))
        turn.end()

    engine.use(without_template(answer))
    call = stream_open(llamacpp.url, messages=USER)
    call.read_until(b'"content":"a"')
    read.set()
    block = block_of(call.answer())
    assert block["inter_chunk_ms"]["max"] >= 90
    assert block["latency_ms"] - block["ttft_ms"] >= 90


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"user": "me"}, "user"),
        ({"no_such_member": 0}, "no_such_member"),
        ({"stream_options": {"continuous_usage_stats": True}}, "stream_options.continuous_usage_stats"),
        ({"stream_options": 1}, "stream_options"),
        ({"stream": "yes"}, "stream"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "name": "me", "content": ""}]}, "messages[0].name"),
        ({"messages": [*USER, {"role": "user", "content": [{"type": "image_url"}]}]}, "messages[1].content[0]"),
    ],
)
def test_what_cannot_be_translated_is_refused(
    llamacpp: Served, engine: ScriptedEngine, members: dict[str, Any], param: str
) -> None:
    with llamacpp.counts("error"):
        answer = post(llamacpp.url, {"model": "m", "messages": USER, **members})
    assert (answer.status, answer.error["param"], answer.error["code"]) == (400, param, "unsupported_parameter")
    assert param in answer.error["message"] or param.startswith(("messages", "stream"))
    assert not engine.requests


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"messages":' + b"[" * 100_000, b'{"seed":NaN}', b'{"a":"\xff"}'])
def test_a_body_that_is_no_chat_is_refused(llamacpp: Served, engine: ScriptedEngine, body: bytes) -> None:
    answer = ask(llamacpp.url, "POST", CHAT, (), body)
    assert (answer.status, answer.error["type"]) == (400, "invalid_request_error")
    assert not engine.requests


@pytest.mark.parametrize(
    ("body", "message", "error_type"),
    [
        (b'{"error":{"code":503,"message":"busy","type":"unavailable"}}', "busy", "unavailable"),
        (b'{"error":"Model is overloaded","error_type":"overloaded"}', "Model is overloaded", "overloaded"),
        (b'{"object":"error","message":"busy","type":"x"}', "busy", "x"),
        (b'{"detail":[{"loc":["body"]}]}', '[{"loc": ["body"]}]', "engine_error"),
        (b"Service Unavailable", "Service Unavailable", "engine_error"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_the_engines_errors_are_openais(
    llamacpp: Served, engine: ScriptedEngine, body: bytes, message: str, error_type: str, streamed: bool
) -> None:
    engine.use(answers(body, 503))
    with llamacpp.counts("error"):
        answer = post(llamacpp.url, {"model": "m", "messages": USER, "stream": streamed})
    assert (answer.status, answer.error["message"], answer.error["type"]) == (503, message, error_type)


@pytest.mark.parametrize("status", [204, 302])
def test_a_status_that_is_no_answer(llamacpp: Served, engine: ScriptedEngine, status: int) -> None:
    engine.use(
        without_template(lambda turn: turn.head(status, [("content-length", "0"), ("location", "http://elsewhere")]))
    )
    answer = post(llamacpp.url, {"model": "m", "messages": USER})
    assert (answer.status, answer.error["code"], len(engine.requests)) == (502, "engine_closed_connection", 2)


def test_what_is_no_json_is_null(llamacpp: Served, engine: ScriptedEngine) -> None:
    engine.use(answers(json.dumps({**LAST, "timings": {"predicted_ms": float("nan"), "x": [float("-inf")]}}).encode()))
    assert post(llamacpp.url, {"model": "m", "messages": USER}).json["timings"] == {"predicted_ms": None, "x": [None]}


def test_an_error_in_the_place_of_an_answer(llamacpp: Served, engine: ScriptedEngine) -> None:
    engine.use(answers(b'{"error":{"message":"out of memory"}}'))
    with llamacpp.counts("error"):
        answer = post(llamacpp.url, {"model": "m", "messages": USER})
    assert (answer.status, answer.error["message"]) == (500, "out of memory")


def test_an_error_in_a_stream(start: Start, engine: ScriptedEngine) -> None:
    proxy = start(engine.url, "tgi")
    engine.use(lambda turn: turn.stream([cases("tgi")["native-tgi-generate-stream-error"].body]))
    with proxy.counts("error"):
        answer = stream(proxy.url, messages=USER)
    assert told(answer) == {0: "s"}
    assert answer.events[-1]["error"]["type"] == "generation"
    assert "CUDA out of memory" in answer.events[-1]["error"]["message"]


@pytest.mark.parametrize("end", [Turn.close, Turn.reset, Turn.end])
@pytest.mark.parametrize("parts", [(), (PART,)])
def test_a_death_is_no_clean_end(
    llamacpp: Served, engine: ScriptedEngine, parts: tuple[Any, ...], end: Callable[[Turn], None]
) -> None:
    engine.use(events_of(*parts, end=end))
    with llamacpp.counts("error"):
        answer = stream(llamacpp.url, messages=USER)
    assert b"[DONE]" not in answer.body
    assert b'"finish_reason":"' not in answer.body
    assert answer.events[-1]["error"]["code"] == "engine_closed_connection"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"stop":true,"content":1}',
        b'{"stop":',
        b"[" * 100_000,
        b'{"stop":true,"content":"\xff"}',
        b'{"stop":true,"content":"","tokens_predicted":"8"}',
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_that_is_none(llamacpp: Served, engine: ScriptedEngine, body: bytes, streamed: bool) -> None:
    line = b"data: " + body + b"\n\n"
    engine.use(answers(line, 200, "text/event-stream") if streamed else answers(body))
    with llamacpp.counts("error"):
        answer = post(llamacpp.url, {"model": "m", "messages": USER, "stream": streamed})
    error = answer.events[-1]["error"] if streamed else answer.error
    assert error["code"] == "engine_closed_connection"
    assert streamed or answer.status == 502


def test_a_client_that_leaves_closes_the_engines_connection(llamacpp: Served, engine: ScriptedEngine) -> None:
    closed = threading.Event()

    def answer(turn: Turn) -> None:
        if turn.request.json["stream"]:
            turn.begin_stream()
            turn.chunk(event(PART))
        waiting.set()
        turn.wait_closed()
        closed.set()

    engine.use(without_template(answer))
    for streamed in (True, False):
        waiting, closed = threading.Event(), threading.Event()
        with llamacpp.counts("cancelled"):
            call = post_open(llamacpp.url, {"model": "m", "messages": USER, "stream": streamed})
            assert waiting.wait(DEADLINE_S)
            call.leave()
            assert closed.wait(DEADLINE_S)


def test_other_requests_pass_as_they_are(llamacpp: Served, engine: ScriptedEngine) -> None:
    engine.use(lambda turn: turn.json({"target": turn.request.target}))
    assert ask(llamacpp.url, "GET", "/v1/models").json == {"target": "/v1/models"}
    assert ask(llamacpp.url, "GET", CHAT).json == {"target": CHAT}
    engine.use(lambda turn: turn.answer(ANSWERS["llamacpp"], 200, [("content-type", "application/json")]))
    with llamacpp.counts("complete", "generate"):
        answer = post(llamacpp.url, {"prompt": "hello"}, "/completion")
    assert without_blocks(answer.body)[0] == ANSWERS["llamacpp"]
    assert engine.requests[-1].json == {"prompt": "hello"}


@pytest.fixture(scope="module")
def own_engine(tmp_path_factory: pytest.TempPathFactory, _scripted: ScriptedEngine) -> Iterator[Proxy]:
    """`fastwrap serve` with the engine of docs/translation.md."""
    folder = tmp_path_factory.mktemp("own")
    [program] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    broken = program.replace('"/infer", {', '"/infer", {"broken": self.chat.options["temperature"] / 1, ')
    (folder / "my_engine.py").write_text(broken)
    options = ("--translate-chat", "my_engine:MyEngine", "--backend", "openai", "--relay", "native")
    proxy = Proxy(_scripted.url, *options, env={"PYTHONPATH": str(folder)})
    yield proxy
    proxy.stop()


def client(proxy: Proxy) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{proxy.url}/v1", api_key="k", max_retries=0, timeout=DEADLINE_S)


def own(turn: Turn) -> None:
    """An engine whose streams are NDJSON."""
    last = {"out": "b", "why": "stop", "in": 4, "n": 2}
    if not turn.request.json["streamed"]:
        turn.json({**last, "out": "ab"})
        return
    turn.head(200, [("content-type", "application/x-ndjson"), ("transfer-encoding", "chunked")])
    for line in ({"out": "a", "why": None}, last):
        turn.chunk(json.dumps(line).encode() + b"\n")
    turn.end()


def test_openais_client_and_an_engine_of_ones_own(own_engine: Proxy, engine: ScriptedEngine) -> None:
    engine.use(own)
    create = client(own_engine).chat.completions.create
    answer = create(model="m", messages=USER, max_tokens=3, temperature=1)
    assert engine.request.target == "/infer"
    assert engine.request.json == {"broken": 1, "text": PROMPT, "streamed": False, "limit": 3, "heat": 1}
    assert answer.choices[0].message.content == "ab"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 6
    performance: Any = answer.model_extra
    assert performance["performance"]["completion_tokens"] == 2
    chunks = list(create(model="m", messages=USER, temperature=1, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "ab"
    last: Any = chunks[-1].model_extra
    assert (last["performance"]["chunks"], chunks[-1].choices[0].finish_reason) == (2, "stop")
    engine.use(lambda turn: turn.answer(b'{"out": "a"}\n', 200, [("content-type", "application/x-ndjson")]))
    with pytest.raises(openai.APIError, match="closed the connection"):
        list(create(model="m", messages=USER, temperature=1, stream=True))
    with pytest.raises(openai.BadRequestError, match=r"top_p is not supported.*: max_tokens, temperature"):
        create(model="m", messages=USER, top_p=0.5)


def test_a_translation_that_fails_ends_its_request_only(own_engine: Proxy, engine: ScriptedEngine) -> None:
    engine.use(own)
    create = client(own_engine).chat.completions.create
    with own_engine.counts("error"), pytest.raises(openai.InternalServerError, match="fastwrap failed"):
        create(model="m", messages=USER, temperature="it quotes a prompt")  # type: ignore[call-overload]
    until(lambda: "TypeError in" in own_engine.log, "its place is told")
    assert "it quotes a prompt" not in own_engine.log
    assert create(model="m", messages=USER, temperature=1).choices[0].message.content == "ab"
