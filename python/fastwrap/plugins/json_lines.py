"""Every record as a line of JSON: ``--plugin fastwrap.plugins.json_lines:JsonLines?path=records.jsonl``."""

from __future__ import annotations

import os
from dataclasses import asdict
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

from fastwrap.hooks import hookimpl
from fastwrap.plugins._lines import writer

if TYPE_CHECKING:
    from pathlib import Path

    from fastwrap.hooks import Record

_MEBIBYTE = 1 << 20


class JsonLines:
    """Writes records to a file and begins a new one when it is full; the old ones are ``path.1``, ``path.2`` and so on.

    Args:
        path: Of the file; ``{pid}`` in it is the process's, for each of several workers writes its own.
        megabytes: Of a file.
        files: How many old ones are kept.
    """

    def __init__(self, path: Path, megabytes: float = 100.0, files: int = 5) -> None:
        name = str(path).replace("{pid}", str(os.getpid()))
        most_bytes = int(megabytes * _MEBIBYTE)
        self._write = writer(RotatingFileHandler(name, maxBytes=most_bytes, backupCount=files, delay=True))

    @hookimpl
    def on_record(self, record: Record) -> None:
        """Write it."""
        self._write(asdict(record))
