"""The `openai` client gets from a real engine through fastwrap what it gets directly."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import openai
import pytest

from engines import deviations, requests, wire
from engines.conftest import INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable

    from engines.processes import Site
    from engines.wire import Json

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

USAGE: Json = {"stream_options": {"include_usage": True}}


def options(url: str) -> Json:
    return {"base_url": f"{url}/v1", "api_key": "none", "max_retries": 0, "timeout": wire.ASK_WITHIN_S}


def ask(url: str, body: Json) -> list[Json]:
    """Return the answer, or the chunks of the stream, as JSON."""
    with openai.OpenAI(**options(url)) as client:
        answer: Any = client.chat.completions.create(**body)
        if body.get("stream"):
            return [chunk.to_dict() for chunk in answer]
        return [answer.to_dict()]


def ask_async(url: str, body: Json) -> list[Json]:
    async def run() -> list[Json]:
        async with openai.AsyncOpenAI(**options(url)) as client:
            answer: Any = await client.chat.completions.create(**body)
            if body.get("stream"):
                return [chunk.to_dict() async for chunk in answer]
            return [answer.to_dict()]

    return asyncio.run(run())


def steady(chunks: list[Json]) -> list[Json]:
    """Return the chunks as text has them that was made steady, without the block."""
    without = [{name: value for name, value in chunk.items() if name != "performance"} for chunk in chunks]
    return [wire.loads(wire.steady(json.dumps(chunk, separators=(",", ":")))) for chunk in without]


@pytest.mark.parametrize(
    ("ask", "way"),
    [(ask, "native"), (ask_async, "native"), (ask_async, INSIDE)],
    ids=["sync", "async", "inside"],
)
@pytest.mark.parametrize("stream", [{}, {"stream": True}, {"stream": True, **USAGE}], ids=["", "stream", "usage"])
@pytest.mark.parametrize("what", ["chat", "tools", "two"])
def test_client(site: Site, ask: Callable[[str, Json], list[Json]], way: str, stream: Json, what: str) -> None:
    if way not in site.through:
        pytest.skip(f"{site.kind.name} takes no middleware")
    match what:
        case "tools":
            body = requests.tools(site, tool_choice=requests.FORCED)
        case "two":
            body = requests.chat(site, n=2, temperature=site.kind.many_temperature)
        case _:
            body = requests.chat(site)
    if (what == "tools" and "tools" not in site.kind.has) or (what == "two" and "many" not in site.kind.has):
        pytest.skip(f"{site.kind.name} cannot do this")
    body |= stream
    ask(site.direct, body)  # so that the engine's caches are alike
    direct, through = ask(site.direct, body), ask(site.through[way], body)
    blocks = [chunk["performance"] for chunk in through if "performance" in chunk]
    assert [block["outcome"] for block in blocks] == ["complete"]
    if stream:
        ours, theirs = (wire.shapes(deviations.without(site, body, steady(chunks))) for chunks in (through, direct))
        assert ours == theirs
    else:
        assert steady(through) == steady(direct)


def test_client_sees_the_error(site: Site) -> None:
    """An unknown model, where the engine minds."""
    body = requests.chat(site, model="no-such-model")
    if wire.ask(site.direct, requests.CHAT, body).status == HTTPStatus.OK:
        pytest.skip(f"{site.kind.name} answers for any model")
    with pytest.raises(openai.APIStatusError) as direct:
        ask(site.direct, body)
    with pytest.raises(direct.type) as through:
        ask(site.through["native"], body)
    assert (through.value.status_code, through.value.body) == (direct.value.status_code, direct.value.body)
