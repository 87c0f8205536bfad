"""What the harness must know of a proxy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The simulated engine's model.
MODEL = "tiny"


class UnavailableError(Exception):
    """A proxy cannot be had, or does not serve; says why, and what to do."""


@dataclass(frozen=True)
class Seat:
    """Where a proxy is to run.

    Attributes:
        port: What it listens on, at 127.0.0.1.
        engine_port: What it passes requests to.
        directory: A folder of its own, for its configuration and log; it is kept until the next run.
        answers: What the engine says in this scenario, for what stands in for an engine.
        own_port: A second free port, for what insists on one.
    """

    port: int
    engine_port: int
    directory: Path
    answers: Path
    own_port: int

    @property
    def engine(self) -> str:
        """The engine's URL."""
        return f"http://127.0.0.1:{self.engine_port}"


@dataclass(frozen=True)
class Launch:
    """How a process is started.

    Attributes:
        command: Program and arguments.
        env: Variables beside those that the harness has.
    """

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


class Proxy(Protocol):
    """A way to the engine."""

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def about(self) -> str:
        """What it is and how it is configured, in a line."""
        ...

    def install(self) -> str:
        """Put it onto this machine if it is not there, and return its version.

        Raises:
            UnavailableError: If that cannot be done.
        """
        ...

    def launch(self, seat: Seat) -> Launch:
        """Write its configuration into the seat's directory, and return how it is started."""
        ...
