"""fastwrap's own routes, below ``/-/`` so that the engine's stay its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from fastwrap import metrics

if TYPE_CHECKING:
    from fastwrap.app import Application, Send

PREFIX = "/-/"
_JSON = b"application/json"


async def answer(app: Application, method: str, path: str, send: Send) -> None:
    """Answer ``/-/healthy`` (fastwrap serves), ``/-/ready`` (the engine does too) or ``/-/metrics`` (Prometheus)."""
    status, content_type, body = await _route(app, method, path)
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


async def _route(app: Application, method: str, path: str) -> tuple[int, bytes, bytes]:
    if method not in ("GET", "HEAD"):
        return 405, _JSON, _error("invalid_request_error", "method_not_allowed", f"{path} answers GET only.")
    if path == "/-/healthy":
        return 200, _JSON, json.dumps({"status": "ok"}).encode()
    if path == "/-/ready":
        state = await app.engine.state()
        body = {"status": "ok" if state.ready else "waiting", "backend": state.backend, "engine": state.detail}
        return 200 if state.ready else 503, _JSON, json.dumps(body).encode()
    if path == "/-/metrics":
        content_type, text = metrics.exposition(app.meter)
        return 200, content_type.encode(), text
    message = f"fastwrap has no route {path}: there are /-/healthy, /-/ready and /-/metrics."
    return 404, _JSON, _error("invalid_request_error", "not_found", message)


def _error(kind: str, code: str, message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()
