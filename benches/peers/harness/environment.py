"""A virtual environment for each peer, outside the checkout, kept from run to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.proxy import UnavailableError

#: A peer with a hundred dependencies, on a slow line.
_LONGEST_INSTALL_SECONDS = 900.0
_SHOWN_LINES = 3


def root() -> Path:
    """The folder that holds them."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "fastwrap-peers"


def install(name: str, *requirements: str) -> Path:
    """Make the environment ``name`` with exactly these requirements, unless it is there, and return its ``bin``.

    Raises:
        UnavailableError: If it cannot be made; says what pip said.
    """
    folder = root() / name
    wanted = "\n".join((f"python {sys.version}", *requirements, ""))
    mark = folder / "requirements.txt"
    if not (mark.exists() and mark.read_text(encoding="utf-8") == wanted):
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, [sys.executable, "-m", "venv", str(folder)])
        _run(name, [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements])
        mark.write_text(wanted, encoding="utf-8")
    return folder / "bin"


def _run(name: str, command: list[str]) -> None:
    try:
        done = subprocess.run(  # noqa: S603 (the harness's own words)
            command, capture_output=True, text=True, timeout=_LONGEST_INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnavailableError(f"{name} could not be installed: {error}") from error
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-_SHOWN_LINES:])
        raise UnavailableError(f"{name} could not be installed: {said}")
