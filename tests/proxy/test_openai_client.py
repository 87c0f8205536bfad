"""OpenAI's own Python client sees through fastwrap what it sees directly, and can read the numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.scripted import ScriptedEngine, Turn, delta

MESSAGES: Any = [{"role": "user", "content": "What is the weather in Paris?"}]
TOOLS: Any = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
REQUESTS: dict[str, dict[str, Any]] = {
    "text": {},
    "n=2": {"n": 2},
    "tools": {"tools": TOOLS},
    "tool_choice": {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    "max_tokens": {"max_tokens": 3},
}


@pytest.fixture
def urls(served: Serve, simulated: Callable[..., str]) -> tuple[str, str]:
    direct = simulated("--flavor", "vllm", "--tokens", "10", "--seed", "1")
    return direct, served(direct, "--backend", "vllm").url


def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=20)


def plain(answer: Any) -> dict[str, Any]:
    """What differs from answer to answer left out, and fastwrap's block."""
    value: dict[str, Any] = answer.model_dump(exclude={"id", "created", "performance"})
    for choice in value["choices"]:
        for call in (choice.get("message") or choice.get("delta") or {}).get("tool_calls") or ():
            call.pop("id")
    return value


def performance(answer: Any) -> dict[str, Any]:
    block: dict[str, Any] = dict(answer.performance)
    assert answer.model_extra["performance"] == block
    return block


@pytest.mark.parametrize("name", REQUESTS)
def test_an_answer(urls: tuple[str, str], name: str) -> None:
    direct, through = (
        client(url).chat.completions.create(model="tiny", messages=MESSAGES, **REQUESTS[name]) for url in urls
    )
    assert plain(through) == plain(direct)
    assert performance(through)["completion_tokens"] == direct.usage.completion_tokens


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}], ids=["", "usage"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_stream(urls: tuple[str, str], name: str, options: dict[str, Any]) -> None:
    direct, through = (
        list(
            client(url).chat.completions.create(
                model="tiny", messages=MESSAGES, stream=True, **options, **REQUESTS[name]
            )
        )
        for url in urls
    )
    left_out = {"system_fingerprint"} if name == "n=2" else set()  # it can come back on the last finish chunk only
    seen = [sorted(str({**plain(chunk), **dict.fromkeys(left_out)}) for chunk in one) for one in (through, direct)]
    assert seen[0] == seen[1]
    blocks = [chunk for chunk in through if "performance" in (chunk.model_extra or {})]
    assert len(blocks) == 1
    assert performance(blocks[0])["ttft_ms"] > 0


def test_async(urls: tuple[str, str]) -> None:
    async def talk(url: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0, timeout=20) as one:
            create = one.chat.completions.create
            answers = await asyncio.gather(*(create(model="tiny", messages=MESSAGES) for _ in range(8)))
            stream = await create(model="tiny", messages=MESSAGES, stream=True)
            chunks = [plain(chunk) async for chunk in stream]
            return [plain(answer) for answer in answers], chunks

    direct, through = (asyncio.run(talk(url)) for url in urls)
    assert through == direct


def test_other_apis(urls: tuple[str, str]) -> None:
    texts, vectors, models = set(), set(), set()
    for url in urls:
        one = client(url)
        texts.add(one.completions.create(model="tiny", prompt="x").choices[0].text)
        vectors.add(tuple(one.embeddings.create(model="tiny", input="x").data[0].embedding))
        models.add(tuple(model.id for model in one.models.list()))
    assert [len(texts), len(vectors), len(models)] == [1, 1, 1]


def test_an_error_before_the_answer(served: Serve) -> None:
    engine = ScriptedEngine(listens=False)
    with pytest.raises(openai.InternalServerError) as raised:
        client(served(engine.url, "--backend", "vllm").url).chat.completions.create(model="m", messages=MESSAGES)
    assert (raised.value.status_code, raised.value.code) == (502, "engine_unreachable")
    engine.close()


def test_an_engine_that_dies_raises(proxy: Proxy, engine: ScriptedEngine) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        turn.close()

    engine.use(answer)
    with pytest.raises(openai.APIError, match="closed the connection"):
        list(client(proxy.url).chat.completions.create(model="m", messages=MESSAGES, stream=True))
