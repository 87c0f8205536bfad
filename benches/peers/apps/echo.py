"""The least that an ASGI application can do, under Granian just as fastwrap runs under it: a yardstick, with no engine.

It reads a request's body and answers what the engine would: its bytes were asked for before, and come with its pace.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastwrap.servers import granian
from fastwrap.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

#: The file of answers; a worker finds it in its environment.
_ANSWERS = "FASTWRAP_ECHO_ANSWERS"


class Echo:
    """An ASGI application that knows its answer."""

    def __init__(self, answers: Path) -> None:
        known = json.loads(answers.read_text(encoding="utf-8"))
        kind = known["content_type"].encode()
        self._pieces = [(piece["due_s"], piece["text"].encode()) for piece in known["pieces"]]
        self._headers = [(b"content-type", kind)]
        if len(self._pieces) == 1:
            self._headers.append((b"content-length", str(len(self._pieces[0][1])).encode()))

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await send({"type": "http.response.start", "status": 200, "headers": self._headers})
        for due_s, body in self._pieces[:-1]:
            await _until(loop, began_s + due_s)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        due_s, body = self._pieces[-1]
        await _until(loop, began_s + due_s)
        await send({"type": "http.response.body", "body": body})


async def _until(loop: asyncio.AbstractEventLoop, due_s: float) -> None:
    left_s = due_s - loop.time()
    if left_s > 0:
        await asyncio.sleep(left_s)


def _load(*_arguments: object) -> Echo:
    return Echo(Path(os.environ[_ANSWERS]))


def main() -> None:
    """Serve as ``fastwrap serve --server granian`` does, with another application."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--answers", required=True)
    options = parser.parse_args()
    os.environ[_ANSWERS] = options.answers
    # Settings that were copied would differ one day; so the application is exchanged, and nothing else.
    if not callable(getattr(granian, "_load", None)):
        raise SystemExit("fastwrap.servers.granian loads its application in another way now: mend benches/peers")
    granian._load = _load  # type: ignore[assignment]  # noqa: SLF001 (see above)
    granian.serve(Settings(upstream="http://127.0.0.1:1", port=options.port), lambda _address: None)


if __name__ == "__main__":
    main()
