"""The way to an engine that has only an API of its own: chat completions are translated there and back.

What is measured is the translated answer, with the times at which the engine's own bytes arrived here.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from fastwrap.errors import EngineError
from fastwrap.translations.answer import MAX_BYTES, BrokenAnswerError, Writer, answered_error, error_body
from fastwrap.translations.base import AnsweredError, UntranslatableError
from fastwrap.translations.request import read_chat
from fastwrap.upstream import Answer, Upstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from fastwrap.relays.base import HeaderList, Headers
    from fastwrap.translations.base import Translation

_CHAT = b"/chat/completions"
_OK, _BAD_REQUEST, _INTERNAL_SERVER_ERROR = 200, 400, 500
#: Of the engine's own answer: they say nothing of the translated one.
_OWN_HEADERS = (b"content-type", b"content-length", b"content-encoding", b"transfer-encoding")
#: The fault that an answer is that is none.
_BROKEN = "engine_closed_connection"


class TranslatingUpstream(Upstream):
    """See :class:`fastwrap.upstream.Upstream`.

    Args:
        translation: The engine's.
        url: As there. So are the timeouts.
    """

    def __init__(self, translation: type[Translation], url: str, **timeouts: float) -> None:
        super().__init__(url, **timeouts)
        self._translation = translation

    async def send(self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]) -> Answer:
        """Send a request, translated if it is one for a chat completion, and wait for its answer's head.

        Raises:
            EngineError: If there is none.
        """
        path = target.partition(b"?")[0]
        if method != "POST" or not path.endswith(_CHAT) or not isinstance(body, bytes):
            return await super().send(method, target, headers, body)
        headers = [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
        headers.append((b"content-type", b"application/json"))
        try:
            translation = self._translation(read_chat(body, self._translation.members))
        except UntranslatableError as error:
            now_ns = time.monotonic_ns()
            return _Translated(_BAD_REQUEST, [], now_ns, [(now_ns, error_body(error))])
        return await self._translate(translation, headers)

    async def _translate(self, translation: Translation, headers: HeaderList) -> Answer:
        async def ask(path: str, value: Mapping[str, Any]) -> Any:
            answer, pieces = await _whole(await self._post(path, value, headers))
            return _parsed(_joined(pieces)) if answer.status == _OK else None

        answer = await self._post(*translation.request(await translation.prompt(ask)), headers)
        writer = Writer(translation.chat, translation)
        if translation.chat.stream and answer.status == _OK:
            return _Stream(answer, writer)
        answer, pieces = await _whole(answer)
        status, body = _completion(writer, answer.status, _joined(pieces))
        arrivals = [(read_ns, b"") for read_ns, _ in pieces]
        last_ns = arrivals[-1][0] if arrivals else answer.sent_ns
        return _Translated(status, answer.headers, answer.sent_ns, [*arrivals, (last_ns, body)])

    async def _post(self, path: str, value: Mapping[str, Any], headers: HeaderList) -> Answer:
        return await super().send("POST", path.encode(), headers, json.dumps(value).encode())


async def _whole(answer: Answer) -> tuple[Answer, list[tuple[int, bytes]]]:
    """Read an answer to its end; return it, and its pieces with the times of their arrival."""
    pieces, size = [], 0
    try:
        async for read_ns, piece in answer.chunks():
            pieces.append((read_ns, piece))
            size += len(piece)
            if size > MAX_BYTES:
                raise EngineError(_BROKEN, "an answer without end")
    finally:
        await answer.close()
    return answer, pieces


def _joined(pieces: list[tuple[int, bytes]]) -> bytes:
    return b"".join(piece for _, piece in pieces)


def _completion(writer: Writer, status: int, body: bytes) -> tuple[int, bytes]:
    """Return status and body of what is no stream."""
    if status >= _BAD_REQUEST:
        return status, error_body(answered_error(_parsed(body) or body.decode(errors="replace")))
    if status != _OK:
        raise EngineError(_BROKEN, f"status {status}")
    try:
        return status, writer.whole(body)
    except AnsweredError as error:
        return _INTERNAL_SERVER_ERROR, error_body(error)
    except BrokenAnswerError as error:
        raise EngineError(_BROKEN, str(error)) from error


def _parsed(body: bytes) -> Any:
    """What it says as JSON; None if it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


class _Translated(Answer):
    """A whole answer: what was read, when, and the translation at the end."""

    def __init__(self, status: int, headers: HeaderList, sent_ns: int, pieces: list[tuple[int, bytes]]) -> None:
        self.status = status
        length = b"%d" % len(_joined(pieces))
        self.headers = [*_kept(headers), (b"content-type", b"application/json"), (b"content-length", length)]
        self.sent_ns = sent_ns
        self._pieces = pieces

    async def chunks(self) -> AsyncIterator[tuple[int, bytes]]:
        for piece in self._pieces:
            yield piece

    async def close(self) -> None:
        """The engine's own has been closed."""


class _Stream(Answer):
    """A stream whose events are translated as they come."""

    def __init__(self, answer: Answer, writer: Writer) -> None:
        self._answer = answer
        self._writer = writer
        self.status = answer.status
        self.headers = [*_kept(answer.headers), (b"content-type", b"text/event-stream")]
        self.sent_ns = answer.sent_ns

    async def chunks(self) -> AsyncIterator[tuple[int, bytes]]:
        read_ns = self.sent_ns
        try:
            async for read_ns, chunk in self._answer.chunks():
                yield read_ns, self._writer.chunks(chunk)
            yield read_ns, self._writer.end()
        except BrokenAnswerError as error:
            raise EngineError(_BROKEN, str(error)) from error

    async def close(self) -> None:
        await self._answer.close()


def _kept(headers: HeaderList) -> HeaderList:
    return [(name, value) for name, value in headers if name.lower() not in _OWN_HEADERS]
