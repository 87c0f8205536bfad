"""Engines as they were recorded: what they answer depends on the request they receive."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from proxy.blocks import without_blocks
from proxy.client import Answer
from proxy.scripted import Turn

STREAMS = Path(__file__).parents[1] / "streams"
#: Folder to adapter.
FOLDERS = {
    "llamacpp": "llamacpp",
    "ollama": "ollama",
    "sglang": "sglang",
    "tgi": "tgi",
    "transformers": "transformers",
    "vllm": "vllm",
    "vllm-options": "vllm",
    "vllm-tools": "vllm",
}
_CONTENT_TYPES = {".json": "application/json", ".sse": "text/event-stream", ".txt": "text/plain"}
_PATHS = {
    "chat": "/v1/chat/completions",
    "tools": "/v1/chat/completions",
    "error": "/v1/chat/completions",
    "completions": "/v1/completions",
}
#: TGI's own API.
_OWN_PATHS = {".json": "/generate", ".sse": "/generate_stream"}
_STREAMS = ("text/event-stream", "application/x-ndjson")
#: TGI ends a stream of tool calls without any finish_reason: no event is known to be the last that could carry a block.
NEVER_FINISHED = ("tgi", "tools-forced-stream")
#: These change with the body, or belong to one connection.
PER_HOP = {"content-length", "transfer-encoding", "date", "server", "connection"}
#: These hold for one connection only, or are the server's in front of fastwrap.
_OWN_HEADERS = {"transfer-encoding", "content-length", "connection", "keep-alive", "date", "server"}


@dataclass(frozen=True)
class Case:
    """A request and what the engine answered."""

    name: str
    path: str
    request: bytes
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def key(self) -> str:
        return canonical(self.path, self.request)

    @property
    def is_error(self) -> bool:
        """It tells of an error, with whatever status."""
        parsed = self.answer.events if self.is_stream else [self.answer.json] if self.body[:1] == b"{" else []
        data = [one for one in parsed if isinstance(one, dict)]
        return self.status != 200 or any(one.get("error") or one.get("object") == "error" for one in data)

    @property
    def answer(self) -> Answer:
        return Answer(self.status, list(self.headers), self.body)

    @property
    def is_stream(self) -> bool:
        return any(name == "content-type" and value.startswith(_STREAMS) for name, value in self.headers)


def canonical(path: str, body: bytes) -> str:
    try:
        return path + json.dumps(json.loads(body), sort_keys=True)
    except ValueError:
        return path + body.decode()


@cache
def cases(folder: str) -> dict[str, Case]:
    """All recorded cases of an engine, by name."""
    listed = STREAMS / folder / "cases.json"
    if not listed.exists():
        return _handmade(folder)
    found = {}
    for name, one in json.loads(listed.read_text()).items():
        body = (STREAMS / folder / one["file"]).read_bytes()
        headers = tuple((key, value) for key, value in one["headers"] if key not in _OWN_HEADERS)
        found[name] = Case(name, one["path"], one["request"].encode(), one["status"], headers, body)
    return found


def _handmade(folder: str) -> dict[str, Case]:
    found = {}
    for file in sorted((STREAMS / folder).iterdir()):
        name, headers = file.stem, (("content-type", _CONTENT_TYPES[file.suffix]),)
        kind = name.split("-")[0]
        path = _OWN_PATHS.get(file.suffix) if kind == "native" else _PATHS.get(kind)
        if path is None:
            continue
        request: dict[str, Any] = {"model": "tiny", "case": name.removesuffix("-usage")}
        if file.suffix == ".sse":
            request["stream"] = True
        if name.endswith("-usage"):
            request["stream_options"] = {"include_usage": True}
        status = 429 if name == "error-overloaded" else 200
        found[name] = Case(name, path, json.dumps(request).encode(), status, headers, file.read_bytes())
    return found


class Recorded:
    """The script of a recorded engine: its streams are cut at random, the same way each time."""

    def __init__(self, folder: str, case: Case, seed: int = 0) -> None:
        self.folder = folder
        self.case = case
        self.cases = {one.key: one for one in cases(folder).values()}
        self.random = random.Random(seed)  # noqa: S311 (it cuts streams)

    def __call__(self, turn: Turn) -> None:
        case = self.find(turn.request.target, turn.request.body)
        if case.is_stream:
            turn.head(case.status, [*case.headers, ("transfer-encoding", "chunked")])
            for piece in self.cut(case.body):
                turn.chunk(piece)
            turn.end()
        else:
            turn.answer(case.body, case.status, case.headers)

    def find(self, path: str, body: bytes) -> Case:
        """The case at hand, unless another one is the recording of exactly this request."""
        if canonical(path, body) == self.case.key:
            return self.case
        return self.cases.get(canonical(path, body), self.case)

    def cut(self, body: bytes) -> list[bytes]:
        size = self.random.choice((1, 7, 60, 400, 4000))
        pieces, at = [], 0
        while at < len(body):
            step = self.random.randint(1, size)
            pieces.append(body[at : at + step])
            at += step
        return pieces if len(pieces) < 3000 else [body]


def told(answer: Answer) -> dict[int, str]:
    """What a stream says: the text of every choice, however it was cut into chunks."""
    texts: dict[int, str] = {}
    for data in answer.events:
        for choice in data.get("choices", []) if isinstance(data, dict) else []:
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning") or choice.get("text") or ""
            texts[choice["index"]] = texts.get(choice["index"], "") + text
    return texts


def shape(answer: Answer) -> dict[str, set[str]]:
    """Which members its events have: those that finish a choice, those without choices, and others by name."""
    members: dict[str, set[str]] = {}
    for data in answer.events:
        if isinstance(data, str):
            members[data] = set()
            continue
        finishes = any(choice.get("finish_reason") for choice in data.get("choices", []))
        kind = "finish" if finishes else "text" if data.get("choices") else "no choices"
        members.setdefault(kind, set()).update(data)
    return members


def kept_headers(answer: Answer) -> list[tuple[str, str]]:
    return sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in PER_HOP)


def has_block(folder: str, case: Case) -> bool:
    return not case.is_error and (folder, case.name) != NEVER_FINISHED


def check_through(recorded: Recorded, direct: Answer, through: Answer, received: bytes) -> None:
    """What came through fastwrap is what the engine answers directly, plus the block; `received` was the request."""
    case = recorded.case
    stripped, blocks = without_blocks(through.body)

    assert through.whole
    assert through.status == direct.status == case.status
    assert kept_headers(through) == kept_headers(direct)
    assert len(blocks) == has_block(recorded.folder, case)
    if not case.is_stream:
        assert through.header("content-length") == str(len(through.body))
    if received == case.request:
        assert stripped == case.body
    else:  # usage was asked for, and is taken out again
        assert json.loads(received)["stream_options"]["include_usage"] is True
        answered = recorded.find(case.path, received)
        assert told(through) == told(answered.answer)
        assert shape(through.without(stripped)) == shape(direct)
        if blocks and answered is not case:
            assert blocks[0]["completion_tokens"]
