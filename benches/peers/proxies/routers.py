"""The routers of the inference engines, in Rust: all three are of one family, and are started alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness import environment
from harness.proxy import Launch

if TYPE_CHECKING:
    from harness.proxy import Seat


@dataclass(frozen=True)
class Router:
    """One of them, with one worker behind it and its defaults, but for the log and limits of requests at once.

    Attributes:
        name: The package, and its program.
        about: What it is.
        version: That of the package.
        command: The program, and what comes before the options.
        options: Its own options.
    """

    name: str
    about: str
    version: str
    command: tuple[str, ...]
    options: tuple[str, ...]

    def install(self) -> str:
        """From PyPI."""
        environment.install(self.name, f"{self.name}=={self.version}")
        return self.version

    def launch(self, seat: Seat) -> Launch:
        """It also wants a port for its own metrics."""
        program, *words = self.command
        options = (
            *("--worker-urls", seat.engine, "--host", "127.0.0.1", "--port", str(seat.port)),
            *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(seat.own_port)),
        )
        return Launch((str(environment.root() / self.name / "bin" / program), *words, *options, *self.options))


VLLM_ROUTER = Router(
    "vllm-router", "vLLM's router (Rust), its defaults", "0.1.17", ("vllm-router",), ("--log-level", "warning")
)
SMG = Router(
    "smg",
    "the gateway that SGLang's router became (Rust), its defaults without a limit of requests at once",
    "1.13.0",
    ("smg", "launch"),
    ("--log-level", "warn", "--max-concurrent-requests", "0"),
)
SGLANG_ROUTER = Router(
    "sglang-router",
    "SGLang's router (Rust), its defaults",
    "0.3.2",
    ("sglang-router", "launch"),
    ("--log-level", "warn"),
)
