"""The gate before an engine that fastwrap itself starts: memory that the supervisor and all workers share."""

from __future__ import annotations

import mmap
import os
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

#: Whether it is open, which the native meter reads, and the engine's PID.
_OPEN, _PID = range(2)
_CELL_BYTES = 8


class Gate:
    """Shut as long as the engine cannot serve: requests get 503 then. A worker gets it pickled, and maps the same file.

    Args:
        path: Its file, which is made where there is none: shut, and of no engine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, stat.S_IRUSR | stat.S_IWUSR)
        try:
            os.ftruncate(descriptor, 2 * _CELL_BYTES)
            if sys.platform == "linux":  # a page that there is no room for would end the process when it is written to
                os.posix_fallocate(descriptor, 0, 2 * _CELL_BYTES)
            self._cells = memoryview(mmap.mmap(descriptor, 2 * _CELL_BYTES)).cast("Q")
        finally:
            os.close(descriptor)

    def __reduce__(self) -> tuple[type[Gate], tuple[Path]]:
        return Gate, (self.path,)

    @property
    def engine_pid(self) -> int:
        """The process whose children are the engine; 0 while there is none."""
        return self._cells[_PID]

    @engine_pid.setter
    def engine_pid(self, pid: int) -> None:
        self._cells[_PID] = pid

    @property
    def is_open(self) -> bool:
        """Whether requests get through."""
        return self._cells[_OPEN] != 0

    def open(self) -> None:
        """Let requests through."""
        self._cells[_OPEN] = 1

    def shut(self) -> None:
        """Let none through."""
        self._cells[_OPEN] = 0
