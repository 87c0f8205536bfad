"""Files of keys: those that clients may have, and the engine's own. No key is ever logged, or part of an error."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from fastwrap.errors import KeyFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LOOK_SECONDS = 1.0
#: Ten thousand keys and more: what is larger is another file.
_MOST_BYTES = 1 << 20
OTHERS_MAY_READ = stat.S_IRGRP | stat.S_IROTH
#: What every client, proxy and engine can send as it is: visible ASCII.
_KEY = re.compile(r"[!-~]+")

_logger = logging.getLogger("fastwrap.keys")


def read_keys(path: str) -> list[str]:
    """Return the keys of a file: one a line; blank lines and those that begin with ``#`` are none.

    Raises:
        KeyFileError: If it cannot be read, or is not that; says what to do.
    """
    try:
        if not Path(path).is_file():  # to read another may take for ever
            raise KeyFileError(f"{path} is no file: make one with a key a line, as by: openssl rand -hex 32 > {path}")
        with Path(path).open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error
    if len(data) > _MOST_BYTES:
        raise KeyFileError(f"{path} is larger than {_MOST_BYTES >> 20} MiB: is it the file of keys?")
    try:
        lines = [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise KeyFileError(f"{path} is no text: is it the file of keys?") from error
    keys = {number: line for number, line in enumerate(lines, 1) if line and not line.startswith("#")}
    for number, key in keys.items():
        if not _KEY.fullmatch(key):
            raise KeyFileError(f"{path}: line {number} is no key: one a line, of visible ASCII characters, no spaces")
    if not keys:
        raise KeyFileError(f"{path} holds no key: write one a line into it, as by: openssl rand -hex 32 > {path}")
    return [*keys.values()]


class KeyFile:
    """A file of keys that may change while it is used.

    Args:
        path: Where it is; what symbolic links lead to may change, too, as with Kubernetes' secrets.
        accept: Called with its keys, once they are read and whenever they have changed.
    """

    def __init__(self, path: str, accept: Callable[[list[str]], None]) -> None:
        self._path = path
        self._accept = accept
        self._seen: tuple[int, ...] = ()
        self._trouble = ""

    def look(self) -> None:
        """Read it if it has changed; from one that cannot be used the keys stay as they were."""
        try:
            status = os.stat(self._path)  # noqa: PTH116 (before it is read: a change in between is seen the next time)
            seen = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if seen == self._seen:
                return
            keys = read_keys(self._path)
            self._accept(keys)
        except (KeyFileError, OSError) as error:
            self._complain(str(error))
            return
        self._seen, self._trouble = seen, ""
        _logger.info("%s: %d keys are accepted" if len(keys) > 1 else "%s: %d key is accepted", self._path, len(keys))
        if status.st_mode & OTHERS_MAY_READ:
            _logger.warning("%s can be read by others than its owner: chmod 600 it", self._path)

    def _complain(self, trouble: str) -> None:
        """Say it once; a file that is gone for a moment, and there again, has changed."""
        self._seen = ()
        if trouble != self._trouble:
            self._trouble = trouble
            _logger.warning("the keys stay as they were: %s", trouble)


async def follow(files: Iterable[KeyFile]) -> None:
    """Look at the files about once a second, for ever, off the event loop: a file's system may be slow."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        for file in files:
            await asyncio.to_thread(file.look)
