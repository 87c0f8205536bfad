"""fastwrap itself, of this checkout."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastwrap import _native
from harness.proxy import Launch

if TYPE_CHECKING:
    from harness.proxy import Seat


@dataclass(frozen=True)
class Fastwrap:
    """One of its servers, with everything measured and spliced; no GPU is watched, for no engine uses one."""

    name: str
    about: str
    server: str

    def install(self) -> str:
        """It is here."""
        return _native.__version__

    def launch(self, seat: Seat) -> Launch:
        """``fastwrap serve``."""
        options = ("--server", self.server, "--upstream", seat.engine, "--port", str(seat.port), "--gpu", "off")
        return Launch((sys.executable, "-m", "fastwrap", "serve", *options))
