"""What came over the wire, with what differs from one answer to the next taken out."""

from __future__ import annotations

import http.client
import json
import re
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Json = dict[str, Any]

ASK_WITHIN_S = 60.0
_BLOCK = ',"performance":'
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "date"}

#: Names of one answer, moments, and what a cache had: a value is replaced by one of its kind.
_VOLATILE = (
    (re.compile(r'"(id|item_id|call_id)":"[^"]+"'), r'"\1":"*"'),
    (re.compile(r'"(created|created_at|completed_at)":[0-9.]+'), r'"\1":0'),
    (re.compile(r'"(cached_tokens)":[0-9]+'), r'"\1":0'),
)
_TIMINGS = re.compile(r'"(?:timings|metrics)":\{[^{}]*\}')
_NUMBER = re.compile(r":-?[0-9.]+(?:e[+-]?[0-9]+)?")


@dataclass(frozen=True)
class Answer:
    """A whole answer; `wall_ms` from before the request was sent until its last byte."""

    status: int
    headers: dict[str, str]
    body: str
    wall_ms: float

    @property
    def events(self) -> list[str]:
        """The stream's events as they stand, without comments, which only keep a connection alive."""
        assert self.headers["content-type"].startswith("text/event-stream"), self.body
        parts = [part for part in re.split(r"\n\n", self.body) if part]
        return [part for part in parts if not part.startswith(":")]

    @property
    def kept_headers(self) -> dict[str, str]:
        """The headers that a proxy has to keep."""
        return {
            name: value if name != "x-request-id" else "*"
            for name, value in self.headers.items()
            if name not in _HOP_BY_HOP
        }


def loads(text: str) -> Json:
    """Return a JSON object."""
    value = json.loads(text)
    assert isinstance(value, dict), text
    return value


def connect(url: str) -> http.client.HTTPConnection:
    parts = urllib.parse.urlsplit(url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=ASK_WITHIN_S)


def target(url: str, path: str) -> str:
    """Return a path below that of the URL."""
    return urllib.parse.urlsplit(url).path + path


def ask(url: str, path: str, body: Json | str | None = None) -> Answer:
    """POST a body, or GET."""
    text = body if isinstance(body, str) else json.dumps(body)
    connection = connect(url)
    try:
        began = time.monotonic()
        if body is None:
            connection.request("GET", target(url, path))
        else:
            connection.request("POST", target(url, path), text.encode(), {"content-type": "application/json"})
        response = connection.getresponse()
        content = response.read()
        wall_ms = (time.monotonic() - began) * 1000
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, content.decode(), wall_ms)
    finally:
        connection.close()


def cut_block(text: str) -> tuple[str, Json | None]:
    """Return a JSON text without fastwrap's block, every other byte kept, and the block."""
    at = text.find(_BLOCK)
    if at < 0:
        return text, None
    start = at + len(_BLOCK)
    block, length = json.JSONDecoder().raw_decode(text[start:])
    rest = text[:at] + text[start + length :]
    assert _BLOCK not in rest, "two blocks"
    return rest, block


def steady(text: str) -> str:
    """Return the text with what is different in every answer replaced."""
    for pattern, replacement in _VOLATILE:
        text = pattern.sub(replacement, text)
    return _TIMINGS.sub(lambda timings: _NUMBER.sub(":0", timings[0]), text)


def data(event: str) -> Json | None:
    """Return the JSON of an event; None for `[DONE]`."""
    text = "\n".join(line.removeprefix("data:").lstrip() for line in event.split("\n") if line.startswith("data:"))
    if text == "[DONE]":
        return None
    return loads(text)


def answer_events(answer: Answer) -> tuple[list[str], Json, int]:
    """Return the events without the block, the block, and the index of the event that held it.

    Raises:
        AssertionError: If there is not one block.
    """
    cut = [cut_block(event) for event in answer.events]
    at = [index for index, (_, block) in enumerate(cut) if block is not None]
    assert len(at) == 1, f"{len(at)} blocks in {answer.body[-2000:]}"
    block = cut[at[0]][1]
    assert block is not None
    return [event for event, _ in cut], block, at[0]


@dataclass
class Shape:
    """A stream, however its tokens were put into chunks.

    Attributes:
        events: What is left of the events of one choice without text; of neighbours that are alike, one.
        text: Its whole text.
    """

    events: list[Json] = field(default_factory=list)
    text: str = ""

    def add(self, event: Json, text: str) -> None:
        self.text += text
        if self.events[-1:] != [event]:
            self.events.append(event)


def _take_texts(event: Json, choice: Json) -> str:
    """Take the text out of an event; `choice` is its only choice, or the event itself."""
    taken = ""
    for holder in (choice, choice.get("delta")):
        if not isinstance(holder, dict):
            continue
        for name in ("content", "text", "reasoning", "reasoning_content"):
            if isinstance(holder.get(name), str) and (holder is not choice or event is not choice):
                taken += holder[name]
                holder[name] = ""
    if isinstance(event.get("delta"), str):
        taken += event["delta"]
        event["delta"] = ""
    return taken


def single_choices(event: Json) -> Iterator[tuple[int, Json]]:
    """Yield the event once for each of its choices, with that one only; an event without any as it is."""
    choices = event.get("choices")
    if not choices:
        yield -1, event
        return
    for choice in choices:
        yield choice["index"], event | {"choices": [choice]}


def shapes(events: Sequence[Json | None]) -> dict[int, Shape]:
    """Return each choice's part of a stream, by its index; -1 for what belongs to none."""
    found: dict[int, Shape] = {}
    for whole in events:
        event = json.loads(json.dumps(whole)) if whole is not None else {"data": "[DONE]"}
        if "sequence_number" in event:
            event["sequence_number"] = 0
        for index, single in single_choices(event):
            choices = single.get("choices")
            text = _take_texts(single, choices[0] if choices else single)
            found.setdefault(index, Shape()).add(single, text)
    return found


def chunks_with_text(events: Sequence[str]) -> int:
    """Count the events that hold text."""
    parsed = [data(event) for event in events]
    return sum(any(shape.text for shape in shapes([event]).values()) for event in parsed)
