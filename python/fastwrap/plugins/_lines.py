"""Writes lines of JSON through a handler of logging, which knows how files are flushed, reopened and rotated."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def writer(handler: logging.Handler) -> Callable[[Mapping[str, Any]], None]:
    """Return what writes a line."""

    def fail(_record: logging.LogRecord) -> NoReturn:
        raise  # noqa: PLE0704 (logging calls this where it has caught the error, and would only print it)

    def write(value: Mapping[str, Any]) -> None:
        text = json.dumps(value, separators=(",", ":"))
        handler.handle(logging.LogRecord(__name__, logging.INFO, "", 0, text, None, None))

    handler.handleError = fail  # type: ignore[assignment,method-assign]
    return write
