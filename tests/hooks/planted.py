"""Plugins as somebody else writes them: they note what they get, and do what a request tells them to."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastwrap.hooks import Arrival, FirstToken, Record, Reject, Request, hookimpl

SECRET = "sk-planted-secret"  # noqa: S105 (a test's)
HANG = "hang"


def hang() -> None:
    threading.Event().wait()


class Notes:
    """Writes down all that it is told, a line each."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _note(self, hook: str, told: Mapping[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"hook": hook, **told}) + "\n")

    @hookimpl
    def validate(self, request: Request) -> None:
        seen = {"query": request.query, "json": request.json, "bytes": len(request.body), **request.headers}
        whose = {"request_id": request.request_id, "key_id": request.key_id}
        self._note("validate", {**whose, "path": request.path, **seen})

    @hookimpl
    def on_request(self, arrival: Arrival) -> None:
        self._note("on_request", asdict(arrival))

    @hookimpl
    def on_first_token(self, first_token: FirstToken) -> None:
        self._note("on_first_token", asdict(first_token))

    @hookimpl
    def on_record(self, record: Record) -> None:
        self._note("on_record", asdict(record))


class Moody:
    """Does in each hook what the request's header or model says."""

    @hookimpl
    def validate(self, request: Request) -> Reject | None:
        mood = request.headers.get("x-mood")
        if mood == HANG:
            hang()
        if mood == "raise":
            raise ValueError(request.body)
        if mood == "reject":
            return Reject("not today", 429, "moody", "mood_error", retry_after=1.2)
        return None

    @hookimpl
    def on_record(self, record: Record) -> None:
        if record.model == HANG:
            hang()
        if record.model == "raise":
            raise ValueError(record)

    @hookimpl
    def enrich(self, record: Record) -> dict[str, Any] | None:
        if record.model == "raise":
            raise ValueError(record)
        if record.model == "slow":
            threading.Event().wait(0.3)
        if record.model == "overwrite":
            return {"latency_ms": 0}
        return {"team": "tokens", "asked": [record.method, record.path, record.status]}


class Closed:
    """Fails closed."""

    fail_closed = True

    @hookimpl
    def validate(self, request: Request) -> None:
        raise ValueError(request.body)


class Misspelt:
    @hookimpl
    def on_recrd(self) -> None: ...


class Hookless: ...
