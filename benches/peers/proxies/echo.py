"""An empty ASGI application under the same Granian: what that server costs, whatever it serves."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.proxy import Launch

if TYPE_CHECKING:
    from harness.proxy import Seat

_APPLICATION = Path(__file__).parents[1] / "apps" / "echo.py"


@dataclass(frozen=True)
class Echo:
    """No proxy: it reads the request, and answers what the engine would, by itself."""

    name: str = "echo"
    about: str = "an empty ASGI application under fastwrap's own settings of Granian; no engine behind it"

    def install(self) -> str:
        """It is here."""
        return f"granian {version('granian')}"

    def launch(self, seat: Seat) -> Launch:
        """``apps/echo.py``."""
        command = (sys.executable, str(_APPLICATION), "--port", str(seat.port), "--answers", str(seat.answers))
        return Launch(command)
