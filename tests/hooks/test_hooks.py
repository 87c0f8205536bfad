"""Plugins before real requests, on both servers: what they are told, what they decide, and what their failures do."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hooks.planted import HANG, SECRET
from proxy.client import CHAT, ask, post, post_open, stream_open
from proxy.conftest import STACKS
from proxy.processes import DEADLINE_S, Proxy, until
from proxy.scripted import DONE, ScriptedEngine, Turn, chat, delta

_TESTS = Path(__file__).parents[1]
_KEY = ("authorization", f"Bearer {SECRET}")


class Planted:
    """A proxy with the planted plugins before an engine, and what they noted."""

    def __init__(self, proxy: Proxy, engine: ScriptedEngine, path: Path) -> None:
        self.proxy = proxy
        self.url = proxy.url
        self.engine = engine
        self._path = path

    def notes(self, request_id: str, count: int) -> list[dict[str, Any]]:
        """What was noted of a request, when it is so much."""

        def of() -> list[dict[str, Any]]:
            lines = self._path.read_text().splitlines() if self._path.exists() else []
            return [note for note in map(json.loads, lines) if note["request_id"] == request_id]

        until(lambda: len(of()) >= count, f"{count} notes of {request_id}")
        return of()

    def errors(self) -> Counter[str]:
        samples = self.proxy.scrape()
        return Counter({key[1]: int(value) for key, value in samples.items() if key[0] == "fastwrap_hook_errors_total"})


@pytest.fixture(scope="module")
def planted(stack: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    directory = tmp_path_factory.mktemp("hooks")
    keys, notes = directory / "keys", directory / "notes"
    keys.write_text(f"{SECRET}\n")
    plugins = ("--plugin", f"hooks.planted:Notes?path={notes}", "--plugin", "hooks.planted:Moody")
    options = ("--backend", "vllm", "--hook-timeout", "0.5", "--api-key-file", str(keys), "--max-body-bytes", "2000000")
    engine = ScriptedEngine()
    proxy = Proxy(engine.url, *STACKS[stack], *options, *plugins, env={"PYTHONPATH": str(_TESTS)})
    proxy.headers = [_KEY]
    yield Planted(proxy, engine, notes)
    proxy.stop()
    engine.close()
    # A hook that hangs, as one does by now, keeps nobody from ending.
    assert proxy.process.returncode == 0, proxy.log
    assert SECRET not in proxy.log
    assert "a prompt" not in proxy.log
    assert "hooks.planted:Moody failed: ValueError at" in proxy.log


@pytest.fixture(autouse=True)
def _chats(planted: Planted) -> None:
    planted.engine.use(chat)


def asked(model: str, request_id: str, *headers: tuple[str, str], **members: Any) -> tuple[Any, str, list[Any]]:
    value = {"model": model, "messages": [{"role": "user", "content": "a prompt"}], **members}
    return value, CHAT, [_KEY, ("x-request-id", request_id), *headers]


def test_a_stream_meets_each_hook_once(planted: Planted) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        planted.notes("one", 3)  # told while the answer is still under way
        for piece in (delta("b"), delta("c"), delta(finish="stop"), DONE):
            turn.chunk(piece)
        turn.end()

    planted.engine.use(answer)
    answered = post(planted.url, *asked("m", "one", stream=True))
    block = next(event["performance"] for event in answered.events if "performance" in event)
    assert (block["team"], block["asked"]) == ("tokens", ["POST", CHAT, 200])
    validated, arrived, first, record = planted.notes("one", 4)
    hooks = [note.pop("hook") for note in (validated, arrived, first, record)]
    assert sorted(hooks) == ["on_first_token", "on_record", "on_request", "validate"]
    named = {note["hook"]: note for note in planted.notes("one", 4)}
    assert named["on_first_token"]["model"] == "m"
    assert named["on_first_token"]["ttft_ms"] == block["ttft_ms"]
    assert named["on_record"]["performance"] == block
    assert named["validate"]["json"]["messages"][0]["content"] == "a prompt"
    assert len({named[hook]["key_id"] for hook in ("validate", "on_request", "on_record")} - {None}) == 1
    assert "authorization" not in named["validate"]
    assert SECRET not in json.dumps(named)


@pytest.mark.parametrize("size", [1000, 1_000_000])
def test_a_body_is_seen_whole_and_goes_on_unchanged(planted: Planted, size: int) -> None:
    body = json.dumps({"model": "m", "user": "é" * (size // 6)}).encode()
    request_id = f"whole-{size}"
    headers = [_KEY, ("x-request-id", request_id)]
    answer = ask(planted.url, "POST", f"{CHAT}?a=b", headers, [body[:7], body[7:]])
    assert answer.json["performance"]["outcome"] == "complete"
    assert planted.engine.request.body == body
    note = next(note for note in planted.notes(request_id, 3) if note["hook"] == "validate")
    assert (note["bytes"], note["query"], note["path"]) == (len(body), "a=b", CHAT)


def test_a_rejection_is_the_answer_and_the_engine_sees_nothing(planted: Planted) -> None:
    answer = post(planted.url, *asked("m", "rejected", ("x-mood", "reject")))
    assert (answer.status, answer.header("retry-after"), answer.header("connection")) == (429, "2", None)
    assert answer.error == {"message": "not today", "type": "mood_error", "code": "moody"}
    assert not planted.engine.requests
    record = planted.notes("rejected", 3)[-1]
    assert (record["status"], record["model"]) == (429, None)
    assert (record["performance"]["outcome"], record["performance"]["error_type"]) == ("error", "moody")


@pytest.mark.parametrize("mood", ["raise", HANG])
def test_a_validation_that_fails_or_hangs_is_counted_and_the_request_goes_on(planted: Planted, mood: str) -> None:
    before = planted.errors()
    held = post_open(planted.url, *asked("m", f"mood-{mood}", ("x-mood", mood)))
    with_others = post(planted.url, *asked("m", f"beside-{mood}"))
    assert (with_others.status, held.answer().status) == (200, 200)
    assert planted.errors() - before == Counter(validate=1)


@pytest.mark.parametrize(("model", "failed"), [("raise", {"enrich": 1, "on_record": 1}), ("overwrite", {"enrich": 1})])
def test_a_failing_hook_costs_its_members_and_nothing_else(
    planted: Planted, model: str, failed: Mapping[str, int]
) -> None:
    before = planted.errors()
    block = post(planted.url, *asked(model, f"fails-{model}")).json["performance"]
    assert block["latency_ms"] > 0
    assert "team" not in block
    until(lambda: planted.errors() - before == Counter(failed), f"{failed} counted")


def test_what_is_not_measured_or_not_admitted_has_a_record_too(planted: Planted) -> None:
    models = ask(planted.url, "GET", "/v1/models", [_KEY, ("x-request-id", "models")])
    refused = ask(planted.url, "GET", "/v1/models?key=x", [("x-request-id", "refused")])
    large = ask(planted.url, "POST", CHAT, [_KEY, ("x-request-id", "large")], [b"x" * 2_000_001])
    left = stream_open(planted.url)  # without a key: it is refused, whoever reads that
    left.leave()
    assert [answer.status for answer in (models, refused, large)] == [404, 401, 413]
    assert [note["hook"] for note in planted.notes("refused", 1)] == ["on_record"]
    for request_id, count in (("models", 3), ("large", 2)):
        record = planted.notes(request_id, count)[-1]
        assert record["hook"] == "on_record"
        assert record["status"] == (404 if request_id == "models" else 413)
        assert record["performance"]["outcome"] == "error"


def test_a_client_that_leaves_is_recorded_and_its_engine_is_left(planted: Planted) -> None:
    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        turn.wait_closed()

    planted.engine.use(answer)
    call = post_open(planted.url, *asked("m", "left", stream=True))
    call.read_until(b"data:")
    call.leave()
    record = planted.notes("left", 4)[-1]
    assert (record["status"], record["performance"]["outcome"]) == (200, "cancelled")


def test_a_client_that_leaves_while_its_block_is_enriched_stops_nobody(planted: Planted) -> None:
    """Whoever drops its request must not hold the interpreter that the hook waits for."""
    leaving = threading.Event()

    def answer(turn: Turn) -> None:
        turn.begin_stream()
        turn.chunk(delta("a"))
        leaving.wait(DEADLINE_S)
        turn.chunk(delta(finish="stop") + DONE)

    planted.engine.use(answer)
    call = post_open(planted.url, *asked("slow", "slow", stream=True))
    call.read_until(b"data:")
    leaving.set()
    call.leave()
    assert planted.notes("slow", 4)[-1]["hook"] == "on_record"
    planted.engine.use(chat)
    assert post(planted.url, *asked("m", "after")).status == 200


def test_a_hook_that_hangs_delays_nobody(planted: Planted) -> None:
    """The last one of this process, for nothing is noted any more."""
    for _ in range(3):
        assert post(planted.url, *asked(HANG, "hung")).json["performance"]["team"] == "tokens"
