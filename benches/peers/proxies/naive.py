"""The original idea: FastAPI and httpx, with the performance block computed in Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness import environment
from harness.proxy import Launch

if TYPE_CHECKING:
    from harness.proxy import Seat

_APPS = Path(__file__).parents[1] / "apps"
_REQUIREMENTS = ("fastapi==0.165.0", "httpx==0.28.1", "uvicorn[standard]==0.54.0")


@dataclass(frozen=True)
class Naive:
    """``apps/naive.py`` under uvicorn with uvloop and httptools.

    Attributes:
        name: What it is called in tables.
        about: What it is.
        client: ``shared`` or ``per-request``.
    """

    name: str
    about: str
    client: str

    def install(self) -> str:
        """From PyPI."""
        environment.install("naive", *_REQUIREMENTS)
        return ", ".join(_REQUIREMENTS).replace("==", " ")

    def launch(self, seat: Seat) -> Launch:
        """One process."""
        program = environment.root() / "naive" / "bin" / "uvicorn"
        options = ("--app-dir", str(_APPS), "--host", "127.0.0.1", "--port", str(seat.port), "--no-access-log")
        env = {"NAIVE_UPSTREAM": seat.engine, "NAIVE_CLIENT": self.client}
        return Launch((str(program), "naive:app", *options, "--backlog", "4096"), env)
