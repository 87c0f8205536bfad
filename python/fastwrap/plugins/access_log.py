"""A line of JSON for each request: ``--plugin fastwrap.plugins.access_log:AccessLog``."""

from __future__ import annotations

import logging
import sys
from datetime import datetime, timezone
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING

from fastwrap.hooks import hookimpl
from fastwrap.plugins._lines import writer

if TYPE_CHECKING:
    from pathlib import Path

    from fastwrap.hooks import Record

_ASKED = ("request_id", "key_id", "method", "path", "model", "status")
#: Of the block, what such a log is read for.
_MEMBERS = ("outcome", "error_type", "latency_ms", "ttft_ms", "prompt_tokens", "completion_tokens", "backend")


class AccessLog:
    """Writes to standard output, or to a file, which may be moved away by logrotate; neither prompts nor keys.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._write = writer(WatchedFileHandler(path) if path else logging.StreamHandler(sys.stdout))

    @hookimpl
    def on_record(self, record: Record) -> None:
        """Write the line."""
        ended = datetime.fromtimestamp(record.at, timezone.utc).isoformat(timespec="milliseconds")
        asked = {name: getattr(record, name) for name in _ASKED}
        self._write({"at": ended, **asked, **{name: record.performance[name] for name in _MEMBERS}})
