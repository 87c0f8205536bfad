"""The typed block: in step with the schema, and read from whatever an answer came as."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import types
from collections.abc import Callable, Iterator
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import httpx  # noqa: TID251 (as a client has it)
import openai
import pytest

from fastwrap.client import EngineNumbers, MeasuredStream, Performance, performance_of
from proxy.processes import Process, Proxy
from schema import SCHEMA
from supervised.conftest import SERVERS

BODY: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hello"}]}
PLAIN = {float: "number", int: "integer", str: "string", type(None): "null"}


def compare(kind: Any, schema: dict[str, Any], where: str) -> None:
    """A type says what the schema says, in the same order."""
    hints = get_type_hints(kind)
    extra = isinstance(schema.get("additionalProperties"), dict)
    assert [*hints] == [*schema["properties"], *(["numbers"] if extra else [])], where
    required = {one.name for one in dataclasses.fields(kind) if one.default is dataclasses.MISSING}
    assert required - {"numbers"} == set(schema.get("required", ())), where
    for name, member in schema["properties"].items():
        optional = kind is EngineNumbers  # what the engine does not say is absent there
        compare_member(hints[name], member, f"{where}.{name}", optional=optional)


def compare_member(hint: Any, schema: dict[str, Any], where: str, *, optional: bool) -> None:
    hints = [*get_args(hint)] if get_origin(hint) in (types.UnionType, Union) else [hint]
    if "enum" in schema:
        [literal] = [one for one in hints if get_origin(one) is Literal]
        values = {*get_args(literal), *([None] if type(None) in hints else [])}
        assert values == set(schema["enum"]), where
        return
    declared = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    found = {name_of(one) for one in hints} - ({"null"} if optional else set())
    wanted = set(declared) - ({"null"} if optional else set())
    assert found == wanted or (found, wanted) == ({"number"}, {"integer"}), where
    for one in hints:
        if dataclasses.is_dataclass(one):
            compare(one, schema, where)
        if get_origin(one) is tuple and dataclasses.is_dataclass(get_args(one)[0]):
            compare(get_args(one)[0], schema["items"], where)


def name_of(hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "array"
    return PLAIN.get(hint, "object")


def test_the_types_are_the_schemas() -> None:
    compare(Performance, SCHEMA, "performance")


@pytest.fixture(scope="module")
def engine() -> Iterator[Process]:
    process = Process("engine", "--tokens", "4")
    yield process
    process.stop()


@pytest.fixture(scope="module", params=SERVERS)
def serve(engine: Process, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Starts a proxy for each set of options; gives its base URL."""
    running: dict[tuple[str, ...], Proxy] = {}

    def start(*options: str) -> str:
        if options not in running:
            running[options] = Proxy(engine.url, "--server", request.param, "--backend", "vllm", *options)
        return f"{running[options].url}/v1"

    yield start
    for proxy in running.values():
        proxy.stop()


def client(base_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=base_url, api_key="-", max_retries=0)


def is_whole(found: Performance | None) -> bool:
    return (
        found is not None and found.completion_tokens == 4 and found.outcome == "complete" and found.backend == "vllm"
    )


@pytest.mark.parametrize("places", ["body", "usage", "header"])
def test_an_answer(serve: Callable[..., str], places: str) -> None:
    base = serve("--enrich", places)
    response = httpx.post(f"{base}/chat/completions", json=BODY)
    assert is_whole(performance_of(response))
    if places == "header":
        raw = client(base).chat.completions.with_raw_response.create(**BODY)
        assert is_whole(performance_of(raw))
        return
    assert is_whole(performance_of(response.json()))
    assert is_whole(performance_of(client(base).chat.completions.create(**BODY)))


def test_a_stream(serve: Callable[..., str]) -> None:
    stream = MeasuredStream(client(serve()).chat.completions.create(**BODY, stream=True))
    assert stream.performance is None
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text
    assert is_whole(stream.performance)


def test_the_lines_of_a_stream(serve: Callable[..., str]) -> None:
    with httpx.stream("POST", f"{serve()}/chat/completions", json={**BODY, "stream": True}) as response:
        stream = MeasuredStream(response.iter_lines())
        lines = list(stream)
    assert lines[-2] == "data: [DONE]"
    assert is_whole(stream.performance)


def test_async(serve: Callable[..., str]) -> None:
    async def talk() -> tuple[Performance | None, Performance | None]:
        async with openai.AsyncOpenAI(base_url=serve(), api_key="-", max_retries=0) as one:
            answer = await one.chat.completions.create(**BODY)
            stream = MeasuredStream(await one.chat.completions.create(**BODY, stream=True))
            assert [chunk async for chunk in stream]
            return performance_of(answer), stream.performance

    assert all(map(is_whole, asyncio.run(talk())))


def test_every_member_is_read() -> None:
    block = {name: value(member) for name, member in SCHEMA["properties"].items()}
    block["engine"]["queue_ms"] = 2.5
    found = Performance.read(block)
    told = json.loads(json.dumps(dataclasses.asdict(found)))
    numbers = told["engine"].pop("numbers")
    assert numbers == {"queue_ms": 2.5}
    told["engine"].update(numbers)
    assert told == block


def value(schema: dict[str, Any]) -> Any:
    """A value of this form, with all members."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"][0] if isinstance(schema["type"], list) else schema["type"]
    if kind == "object":
        return {name: value(member) for name, member in schema.get("properties", {}).items()}
    if kind == "array":
        return [value(schema["items"])]
    return {"number": 1.5, "integer": 1, "string": "x"}[kind]


@pytest.mark.parametrize(
    "answer", [None, {}, {"performance": {"speed": 1}}, "data: [DONE]", "", ": performance", b"event: x"]
)
def test_what_has_no_block(answer: object) -> None:
    assert performance_of(answer) is None


def test_ours_comes_before_the_engines_own() -> None:
    block = {name: value(member) for name, member in SCHEMA["properties"].items()}
    found = performance_of({"performance": {"speed": 1}, "fastwrap_performance": {**block, "new": 1}})
    assert found == Performance.read(block)


def test_what_is_no_block_is_refused() -> None:
    with pytest.raises(TypeError):
        Performance.read({"latency_ms": 1.0})


def test_a_stream_is_read_as_what_it_is() -> None:
    with pytest.raises(TypeError, match="use for"):
        asyncio.run(anext(MeasuredStream([1]).__aiter__()))  # type: ignore[arg-type]
