"""fastwrap's own routes, the same behind every server and inside an application."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from fastwrap import metrics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastwrap._native import Meter
    from fastwrap.engine import State
    from fastwrap.relays.base import HeaderList

PREFIX = "/-/"
#: Probes carry no key.
OPEN = ("/-/healthy", "/-/ready")
_JSON = "application/json"

_logger = logging.getLogger("fastwrap")


async def answer(
    method: str, path: str, meter: Meter, ask: Callable[[], Awaitable[State]]
) -> tuple[int, HeaderList, bytes]:
    """Answer ``/-/healthy`` (fastwrap serves), ``/-/ready`` (the engine does too) or ``/-/metrics`` (Prometheus).

    Args:
        method: Of the request.
        path: Of the request.
        meter: Whose numbers are told.
        ask: Asks the engine whether it can serve.

    Returns:
        Status, headers and body.
    """
    try:
        status, content_type, body = await _answer(method, path, meter, ask)
    except Exception:
        meter.internal_error()
        _logger.exception("%s could not be answered", path)
        status, content_type = 500, _JSON
        body = _error("internal_error", "fastwrap failed: see its log.", "server_error")
    return status, [(b"content-type", content_type.encode()), (b"content-length", b"%d" % len(body))], body


async def _answer(method: str, path: str, meter: Meter, ask: Callable[[], Awaitable[State]]) -> tuple[int, str, bytes]:
    if method not in ("GET", "HEAD"):
        return 405, _JSON, _error("method_not_allowed", f"{path} answers GET only.")
    if path == "/-/healthy":
        return 200, _JSON, json.dumps({"status": "ok"}).encode()
    if path == "/-/ready":
        return _readiness(await ask(), is_open=meter.is_open)
    if path == "/-/metrics":
        return 200, *metrics.exposition(meter)
    message = f"fastwrap has no route {path}: there are /-/healthy, /-/ready and /-/metrics."
    return 404, _JSON, _error("not_found", message)


def _readiness(state: State, *, is_open: bool) -> tuple[int, str, bytes]:
    status = "starting" if not is_open else "ok" if state.ready else "waiting"
    body = {"status": status, "backend": state.backend, "engine": state.detail}
    return 200 if status == "ok" else 503, _JSON, json.dumps(body).encode()


def _error(code: str, message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()
