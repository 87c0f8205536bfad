"""Engines as they were recorded: what they answer depends on the request they receive."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
    def is_stream(self) -> bool:
        return any(name == "content-type" and "event-stream" in value for name, value in self.headers)


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
        path = _PATHS.get(name.split("-")[0])
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

    def __init__(self, folder: str, seed: int = 0) -> None:
        self.cases = {case.key: case for case in reversed(cases(folder).values())}
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
        """The recording of exactly this request, or else of the one without `stream_options`."""
        if case := self.cases.get(canonical(path, body)):
            return case
        request = json.loads(body)
        request.pop("stream_options", None)
        return self.cases[canonical(path, json.dumps(request).encode())]

    def cut(self, body: bytes) -> list[bytes]:
        size = self.random.choice((1, 7, 60, 400, 4000))
        pieces, at = [], 0
        while at < len(body):
            step = self.random.randint(1, size)
            pieces.append(body[at : at + step])
            at += step
        return pieces if len(pieces) < 3000 else [body]


def told(answer: Answer) -> dict[str, Any]:
    """What a stream says, however its text was cut into chunks, and without what differs from run to run."""
    texts: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for data in answer.events:
        if isinstance(data, str):
            members[data] = []
            continue
        choices = data.get("choices", [])
        for choice in choices:
            delta = choice.get("delta") or {}
            text = delta.get("content") or delta.get("reasoning") or choice.get("text") or ""
            name = f"choice {choice['index']}"
            texts[name] = texts.get(name, "") + text
            if choice.get("finish_reason"):
                members[f"{name} {choice['finish_reason']}"] = sorted(data)
        if not choices:
            members["no choices"] = sorted(data)
    return {"texts": texts, "members": members}
