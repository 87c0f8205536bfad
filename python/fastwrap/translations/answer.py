"""Writes chat completions and their chunks out of what an engine's own answers tell."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

from fastwrap.translations.base import AnsweredError, Part, UntranslatableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastwrap.translations.base import Chat, Translation

#: The largest line, and the largest whole answer, that an engine may send.
MAX_BYTES = 16 << 20
_MAX_MESSAGE_CHARACTERS = 2000


class BrokenAnswerError(Exception):
    """The engine's answer is not what its API promises."""


class Writer:
    """Turns one answer into a chat completion, or into its chunks.

    Args:
        chat: What was asked for.
        translation: Reads what the engine answers.
    """

    def __init__(self, chat: Chat, translation: Translation) -> None:
        self._chat = chat
        self._translation = translation
        self._rest = bytearray()
        self._has_begun = False
        #: The stream has had its last event, or an error.
        self.has_ended = False
        self._same = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": chat.model}

    def whole(self, body: bytes) -> bytes:
        """Return the chat completion for a whole answer.

        Raises:
            AnsweredError: If it tells of an error.
            BrokenAnswerError: If it is no answer.
        """
        part = self._read(body, self._translation.answer)
        message = {"role": "assistant", "content": part.text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": part.finish_reason}
        answer = {**self._same, "object": "chat.completion", "choices": [choice], "usage": _usage(part), **part.engine}
        return _dumped(answer)

    def chunks(self, data: bytes) -> bytes:
        """Return the chunks for the lines that end in these bytes: events of a stream, or NDJSON.

        Raises:
            BrokenAnswerError: If one of them is none.
        """
        ended, newline, rest = data.rpartition(b"\n")
        self._rest += ended + newline or rest
        if len(self._rest) > MAX_BYTES:
            raise BrokenAnswerError("a line without end")
        if not newline:
            return b""
        lines, self._rest = bytes(self._rest).split(b"\n"), bytearray(rest)
        return b"".join(event for line in lines for event in self._events(line))

    def end(self) -> bytes:
        """Return the chunks for a last line without an end.

        Raises:
            BrokenAnswerError: If the stream has had no end of its own.
        """
        last = b"".join(self._events(bytes(self._rest)))
        if not self.has_ended:
            raise BrokenAnswerError("no last event")
        return last

    def _events(self, line: bytes) -> Iterator[bytes]:
        data = line.strip()
        if data.startswith(b"data:"):
            data = data[5:].strip()
        elif not data.startswith(b"{"):
            return  # an event's name, a comment, the line between two events
        if self.has_ended or not data or data == b"[DONE]":
            return
        try:
            yield from self._told(self._read(data, self._translation.event))
        except AnsweredError as error:
            self.has_ended = True
            yield b"data: " + error_body(error) + b"\n\n"

    def _told(self, part: Part) -> Iterator[bytes]:
        if not self._has_begun:
            self._has_begun = True
            yield self._chunk({"role": "assistant", "content": ""})
        if part.text:
            yield self._chunk({"content": part.text})
        if part.finish_reason is None:
            return
        self.has_ended = True
        # Where llama.cpp has its `timings`: with the usage, if that is asked for.
        engine = {} if self._chat.include_usage else part.engine
        yield self._chunk({}, part.finish_reason, **engine)
        if self._chat.include_usage:
            yield _event({**self._same, **_CHUNK, "choices": [], "usage": _usage(part), **part.engine})
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: dict[str, str], finish_reason: str | None = None, **engine: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _event({**self._same, **_CHUNK, "choices": [choice], **engine})

    def _read(self, data: bytes, read: Callable[[Any], Part]) -> Part:
        try:
            value = json.loads(data, parse_constant=_null)
            if isinstance(value, dict) and value.get("error"):
                raise answered_error(value)
            return read(value)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BrokenAnswerError(type(error).__name__) from error


_CHUNK = {"object": "chat.completion.chunk"}


def answered_error(told: Any) -> AnsweredError:
    """Return what an engine tells of an error, in whatever form."""
    outer = told if isinstance(told, dict) else {}
    error = outer.get("error", told)
    inner = error if isinstance(error, dict) else {}
    message = inner.get("message") or inner.get("detail") or error
    text = message if isinstance(message, str) else json.dumps(message)
    return AnsweredError(
        text[:_MAX_MESSAGE_CHARACTERS], str(inner.get("type") or outer.get("error_type") or "engine_error")
    )


def error_body(error: AnsweredError | UntranslatableError) -> bytes:
    """Return an error as OpenAI's clients expect it."""
    if isinstance(error, AnsweredError):
        members = {"type": error.kind, "param": None, "code": None}
    else:
        members = {"type": "invalid_request_error", "param": error.member, "code": "unsupported_parameter"}
    return _dumped({"error": {"message": str(error), **members}})


def _usage(part: Part) -> dict[str, Any]:
    prompt, completion = part.prompt_tokens, part.completion_tokens
    total = None if prompt is None or completion is None else prompt + completion
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total}
    if part.cached_tokens is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": part.cached_tokens}
    return usage


def _null(_constant: str) -> None:
    """NaN and infinity, which Python reads, are no JSON."""


def _dumped(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _event(value: Any) -> bytes:
    return b"data: " + _dumped(value) + b"\n\n"
