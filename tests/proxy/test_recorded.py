"""Every recorded answer of every engine comes through as it was, plus the block."""

from __future__ import annotations

import pytest

from proxy.blocks import without_blocks
from proxy.client import Answer, ask
from proxy.conftest import Serve
from proxy.processes import Proxy
from proxy.recorded import FOLDERS, Case, Recorded, cases, check_through
from proxy.scripted import ScriptedEngine

ALL = [(folder, name) for folder in FOLDERS for name in cases(folder)]
STREAMS = [(folder, name) for folder, name in ALL if cases(folder)[name].is_stream]


def send(url: str, case: Case) -> Answer:
    return ask(url, "POST", case.path, [("content-type", "application/json")], case.request)


@pytest.fixture
def recorded_proxy(served: Serve, engine: ScriptedEngine, folder: str) -> Proxy:
    return served(engine.url, "--backend", FOLDERS[folder])


@pytest.mark.parametrize(("folder", "name"), ALL)
def test_the_answer_is_the_engines(recorded_proxy: Proxy, engine: ScriptedEngine, folder: str, name: str) -> None:
    case = cases(folder)[name]
    engine.use(recorded := Recorded(folder, case))
    direct = send(engine.url, case)
    through = send(recorded_proxy.url, case)
    check_through(recorded, direct, through, engine.requests[1].body)


@pytest.mark.parametrize(("folder", "name"), [one for one in STREAMS if one[1] in ("chat-stream", "chat-stream-usage")])
def test_any_cut_gives_the_same_bytes(recorded_proxy: Proxy, engine: ScriptedEngine, folder: str, name: str) -> None:
    case = cases(folder)[name]
    bodies = set()
    for seed in range(15):
        engine.use(Recorded(folder, case, seed))
        stripped, blocks = without_blocks(send(recorded_proxy.url, case).body)
        assert len(blocks) == 1
        bodies.add(stripped)
    assert len(bodies) == 1


@pytest.mark.parametrize("folder", FOLDERS)
def test_usage_is_seen_by_those_who_asked(recorded_proxy: Proxy, engine: ScriptedEngine, folder: str) -> None:
    engine.use(Recorded(folder, cases(folder)["chat-stream-usage"]))
    asked = send(recorded_proxy.url, cases(folder)["chat-stream-usage"])
    chunk = [data for data in asked.events if not isinstance(data, str) and data.get("usage")][-1]
    assert chunk["usage"]["completion_tokens"] == 8
    if "chat-stream" not in cases(folder):
        return
    not_asked = send(recorded_proxy.url, cases(folder)["chat-stream"])
    if folder not in ("transformers", "vllm-options"):  # these send it unasked
        assert not [data for data in not_asked.events if not isinstance(data, str) and data.get("usage")]
        assert not [data for data in not_asked.events if not isinstance(data, str) and not data["choices"]]


@pytest.mark.parametrize(("folder", "member"), [("vllm", "system_fingerprint"), ("llamacpp", "timings")])
def test_what_usage_took_along_comes_back(
    recorded_proxy: Proxy, engine: ScriptedEngine, folder: str, member: str
) -> None:
    engine.use(Recorded(folder, cases(folder)["chat-stream"]))
    through = send(recorded_proxy.url, cases(folder)["chat-stream"])
    finish = next(data for data in through.events if data["choices"][0].get("finish_reason"))
    assert engine.request.asks_for_usage
    assert finish[member]
    assert finish["performance"]["completion_tokens"] == 8
