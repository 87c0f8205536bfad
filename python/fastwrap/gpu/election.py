"""One sampler a node: where its readings are shared, and who it is."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fastwrap._native import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

_logger = logging.getLogger("fastwrap.gpu")


def shared_directory() -> Path | None:
    """Return a directory of this user's that no other user can touch, preferably in memory; None if there is none."""
    user = os.geteuid()
    for base in _bases():
        path = base / f"fastwrap-{user}"
        with contextlib.suppress(OSError):
            path.mkdir(mode=0o700, exist_ok=True)
            found = path.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == user and not stat.S_IMODE(found.st_mode) & 0o077
            if is_ours and os.access(path, os.W_OK):
                return path
            _logger.warning("%s is not used: it must be this user's alone (chmod 700)", path)
    return None


def _bases() -> Iterator[Path]:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        yield Path(runtime)
    # Pages of a disk's file are written back, and whoever counts a request in one may wait for that.
    yield Path("/dev/shm")  # noqa: S108 (what it is given there is checked)
    import tempfile  # noqa: PLC0415 (start-up time: here it is the sampler's thread that waits)

    yield Path(tempfile.gettempdir())


def _process_namespace() -> str:
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


class Election:
    """Who of all processes that sample the same devices is the one that does; the kernel ends an office at its death.

    Args:
        key: The same for the same devices; None to share with nobody.

    Attributes:
        board: The file that is shared; None where nothing can be, and each process samples for itself.
    """

    def __init__(self, key: str | None) -> None:
        directory = None if key is None else shared_directory()
        self.board: Path | None = None
        self._path: Path | None = None
        self._lock: IO[bytes] | None = None
        if directory is not None:
            # Another version's board differs; and in another container process ids mean other processes.
            import hashlib  # noqa: PLC0415 (as above)

            distinction = repr((__version__, _process_namespace(), key))
            name = hashlib.sha256(distinction.encode()).hexdigest()[:16]
            self.board = directory / f"gpu-{name}.board"
            self._path = directory / f"gpu-{name}.lock"

    def won(self) -> bool:
        """Stand for the office; return whether it is ours."""
        if self._path is None or self._lock is not None:
            return True
        lock = self._path.open("ab")  # is not passed on to programs that are started
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            return False
        self._lock = lock
        return True

    def resign(self) -> None:
        """Leave the office to others."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None
