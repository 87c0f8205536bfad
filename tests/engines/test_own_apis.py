"""A real engine's own API is measured in its own form, and `--translate-chat` offers OpenAI's before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import openai
import pytest

from engines import requests, wire
from engines.processes import fastwrap
from fastwrap.translations import NAMES

if TYPE_CHECKING:
    from pathlib import Path

    from engines.processes import Site
    from engines.wire import Answer, Json

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

_SAMPLING: Json = {"temperature": 0, "max_new_tokens": requests.TOKENS, "ignore_eos": True}
#: The path, and a request of as many tokens as all others have.
OWN: dict[str, tuple[str, Json]] = {
    "llamacpp": (
        "/completion",
        {"prompt": "hello world", "temperature": 0, "n_predict": requests.TOKENS, "ignore_eos": True},
    ),
    "sglang": ("/generate", {"text": "hello world", "sampling_params": _SAMPLING}),
}
#: Where the text is.
TEXT = {"llamacpp": "content", "sglang": "text"}


@pytest.fixture
def own(site: Site) -> tuple[str, Json]:
    if site.kind.name not in OWN:
        pytest.skip(f"{site.kind.name} has OpenAI's API only, or one that is tested where it can be")
    return OWN[site.kind.name]


def parsed(answer: Answer) -> list[Json]:
    """Return the events of a stream, or the one answer."""
    if answer.headers["content-type"].startswith("application/json"):
        return [wire.loads(answer.body)]
    return [found for event in answer.events if (found := wire.data(event)) is not None]


@pytest.mark.parametrize("streamed", [False, True])
def test_it_is_measured_in_its_own_form(site: Site, own: tuple[str, Json], way: str, streamed: bool) -> None:
    path, body = own
    wire.ask(site.direct, path, body | {"stream": streamed})
    direct, through = (wire.ask(url, path, body | {"stream": streamed}) for url in (site.direct, site.through[way]))
    *others, last = parsed(through)
    block = last.pop("performance")
    theirs = parsed(direct)
    assert set(last) == set(theirs[-1])
    if not streamed or not site.kind.merges:
        assert [set(one) for one in others] == [set(one) for one in theirs[:-1]]
    text = TEXT[site.kind.name]
    assert last[text] == theirs[-1][text]
    assert (block["completion_tokens"], block["outcome"]) == (requests.TOKENS, "complete")
    assert block["measured_as"] == ("stream" if streamed else "json")
    assert block["latency_ms"] <= through.wall_ms
    if streamed:
        assert 0 < block["ttft_ms"] <= block["latency_ms"]
    assert block["engine"].keys() >= {"output_tokens_per_second"}


@pytest.fixture
def translating(site: Site, tmp_path: Path) -> Iterator[str]:
    if site.kind.name not in NAMES:
        pytest.skip(f"there is no translation for {site.kind.name}")
    with fastwrap(site.direct, ("--translate-chat", site.kind.name), tmp_path / "log") as url:
        yield url


def test_openais_client_reads_its_translation(site: Site, translating: str) -> None:
    client = openai.OpenAI(base_url=f"{translating}/v1", api_key="k", max_retries=0, timeout=60)
    create: Any = client.chat.completions.create
    answer = create(model="tiny", messages=requests.USER, **requests.LIMITS)
    chunks = list(create(model="tiny", messages=requests.USER, stream=True, **requests.LIMITS))
    [choice] = answer.choices
    assert choice.finish_reason in ("length", "stop")
    assert choice.message.content == "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert chunks[-1].choices[0].finish_reason == choice.finish_reason
    blocks: list[Json] = [one.model_extra["performance"] for one in (answer, chunks[-1])]
    assert answer.usage is not None
    assert {block["completion_tokens"] for block in blocks} == {answer.usage.completion_tokens}
    assert {block["prompt_tokens"] for block in blocks} == {answer.usage.prompt_tokens}
    assert 0 < blocks[1]["ttft_ms"] <= blocks[1]["latency_ms"]
    with pytest.raises(openai.BadRequestError, match="tools is not supported"):
        create(model="tiny", messages=requests.USER, tools=[requests.TOOL])
    if site.kind.name == "llamacpp":  # its own template made the prompt of its own chat completions, too
        direct = wire.ask(site.direct, requests.CHAT, requests.chat(site))
        assert json.loads(direct.body)["choices"][0]["message"]["content"] == choice.message.content
