"""The hooks, and what they are called with."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pluggy

from fastwrap._native import model_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastwrap.relays.base import HeaderList

#: Of the plugin manager, and of the entry points of packages that hold plugins.
GROUP = "fastwrap"
_hookspec = pluggy.HookspecMarker(GROUP)
#: Marks the methods of a plugin that are hooks.
hookimpl = pluggy.HookimplMarker(GROUP)
_JSON = (b"content-type", b"application/json")
_CLIENT_ERRORS, _LAST_STATUS = 400, 599


class Contract:
    """All hooks; a plugin has any of them. Each is called once for a request."""

    @_hookspec
    def validate(self, request: Request) -> Reject | None:
        """Refuse a request before the engine sees it, or return None; in the request's way, within the time limit."""

    @_hookspec
    def on_request(self, arrival: Arrival) -> None:
        """Note that a request was admitted; a little later, in a thread of its own."""

    @_hookspec
    def on_first_token(self, first_token: FirstToken) -> None:
        """Note that the first text of a stream has come; likewise."""

    @_hookspec
    def on_record(self, record: Record) -> None:
        """Note how a request ended; likewise."""

    @_hookspec
    def enrich(self, record: Record) -> Mapping[str, Any] | None:
        """Return more members of the block that is being written; in the request's way: it must not wait."""


@dataclass(frozen=True)
class Request:
    """A request that is about to go to the engine.

    Attributes:
        request_id: The client's ``x-request-id``, or one of fastwrap's; ``request_id`` in the block.
        key_id: Names the client's key without telling it, the same in all processes; None if it carries none.
        method: As ``POST``.
        path: Without the query.
        query: Without the question mark.
        body: All of it.
    """

    request_id: str
    key_id: str | None
    method: str
    path: str
    query: str
    body: bytes = field(repr=False)
    raw_headers: HeaderList = field(repr=False)

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers by lower-case name; of one that is there more than once, the values joined by commas."""
        joined: dict[str, str] = {}
        for raw_name, raw_value in self.raw_headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        return joined

    @cached_property
    def model(self) -> str | None:
        """The model that the client named, as the record has it."""
        return model_of(self.body)

    @cached_property
    def json(self) -> Any:
        """The body, parsed when it is asked for; None if it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Reject:
    """What a client gets in the engine's place: ``{"error": {"message", "type", "code"}}``.

    Attributes:
        message: For whoever reads it; it goes to the client, and nowhere else.
        status: Of HTTP, 400 to 599.
        code: A word for programs, ``error_type`` in the record.
        type: As OpenAI has it.
        retry_after: After how many seconds it is worth to try again.
    """

    message: str
    status: int = 400
    code: str = "rejected"
    type: str = "invalid_request_error"
    retry_after: float | None = None

    def __post_init__(self) -> None:
        """Check the status."""
        if not _CLIENT_ERRORS <= self.status <= _LAST_STATUS:
            raise ValueError(f"status {self.status} is none of an error: 400 to 599")

    def answer(self) -> tuple[int, HeaderList, bytes, str]:
        """Return status, headers, body and code."""
        error = {"message": self.message, "type": self.type, "code": self.code}
        body = json.dumps({"error": error}).encode()
        headers = [_JSON, (b"content-length", b"%d" % len(body))]
        if self.retry_after is not None:
            headers.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after))))
        return self.status, headers, body, self.code


@dataclass(frozen=True)
class Arrival:
    """A request that was admitted: it has a key, if one is needed, and keeps the limits.

    Attributes:
        at: When, in seconds since 1970.
    """

    at: float
    request_id: str
    key_id: str | None
    method: str
    path: str


@dataclass(frozen=True)
class FirstToken:
    """The first text of a request's stream.

    Attributes:
        at: When, in seconds since 1970.
        model: As the client named it.
        ttft_ms: As in the block.
    """

    at: float
    request_id: str
    model: str | None
    ttft_ms: float


@dataclass(frozen=True)
class Record:
    """What became of a request: also of one that was refused, and of one that is not measured.

    Attributes:
        at: When it ended, in seconds since 1970.
        model: As the client named it.
        status: What the client was answered with; None if it left before.
        performance: The block.
    """

    at: float
    request_id: str
    key_id: str | None
    method: str
    path: str
    model: str | None
    status: int | None
    performance: dict[str, Any]
