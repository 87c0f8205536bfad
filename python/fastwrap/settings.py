"""The settings of ``fastwrap serve``: one definition for the command line, ``FASTWRAP_*`` and the TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from fastwrap.errors import SettingsError

BackendName = Literal["auto", "openai", "vllm", "sglang", "tgi", "transformers", "llamacpp", "ollama"]
LogLevel = Literal["debug", "info", "warning", "error"]

ENRICH_PLACES = ("body", "usage", "header", "server-timing")
MEBIBYTE = 1 << 20


def _option(default: Any, help_text: str, metavar: str | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "metavar": metavar})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``fastwrap serve`` was asked to do. Timeouts are in seconds, and 0 switches one off.

    Raises:
        SettingsError: If a value cannot be used; carries the setting's name.
    """

    upstream: str = _option("", "The engine: http://HOST:PORT, https://HOST or unix:/PATH.", "URL")
    host: str = _option("127.0.0.1", "Address to listen on; 0.0.0.0 for all.")
    port: int = _option(8080, "Port to listen on; 0 takes a free one and says which.")
    workers: int = _option(1, "Worker processes. One is enough for one engine.")
    backend: BackendName = _option("auto", "The kind of engine; auto asks it.")
    enrich: str = _option("body", "Where the numbers go: any of body,usage,header,server-timing; or none.", "PLACES")
    server: Literal["granian"] = _option("granian", "What serves the clients.")
    relay: Literal["native", "httpx"] = _option("native", "What speaks to the engine; httpx is the slow reference.")
    gpu: Literal["auto", "off"] = _option("auto", "Sample GPU memory through NVML.")
    max_body_bytes: int = _option(64 * MEBIBYTE, "Largest request body; larger ones get 413.")
    max_header_bytes: int = _option(64 << 10, "Most bytes of request headers; more get 431.")
    max_inflight: int = _option(0, "Most requests in flight per worker, 0 for any number; more get 503.")
    connect_timeout: float = _option(5.0, "Seconds for the engine to accept a connection.")
    first_byte_timeout: float = _option(600.0, "Seconds for the engine to begin its answer.")
    idle_timeout: float = _option(300.0, "Seconds of silence in the middle of an answer.")
    total_timeout: float = _option(0.0, "Seconds for a whole request.")
    stall_ms: float = _option(1000.0, "A gap between chunks longer than this is counted as a stall.")
    grace: float = _option(30.0, "Seconds for requests in flight to end when fastwrap is told to stop.")
    log_level: LogLevel = _option("info", "How much is logged. Prompts, answers and keys never are.")

    def __post_init__(self) -> None:
        """Check what can be checked without touching the network."""
        if not self.upstream:
            raise SettingsError("upstream", "the engine's address is needed, for example http://127.0.0.1:8000")
        # An OpenAI base URL ends in /v1, and so does every path that clients send: the engine's root is meant.
        object.__setattr__(self, "upstream", self.upstream.rstrip("/").removesuffix("/v1"))
        for place in self.enrich_places:
            if place not in ENRICH_PLACES:
                raise SettingsError("enrich", f"{place!r} is no place: use any of {', '.join(ENRICH_PLACES)}; or none")
        if not 0 <= self.port <= 65535:  # noqa: PLR2004 (TCP's highest port)
            raise SettingsError("port", f"{self.port} is no port: use 0 to 65535")
        if self.workers < 1:
            raise SettingsError("workers", "at least one worker is needed")
        for name in ("max_body_bytes", "max_header_bytes"):
            if getattr(self, name) < 1:
                raise SettingsError(name, "must be at least 1")
        for name in ("max_inflight", "stall_ms", *self.timeouts, "grace"):
            if getattr(self, name) < 0:
                raise SettingsError(name, "must not be negative")

    @property
    def enrich_places(self) -> tuple[str, ...]:
        """The places named by ``enrich``; empty for none."""
        return tuple(place for place in (word.strip() for word in self.enrich.split(",")) if place not in ("none", ""))

    @property
    def timeouts(self) -> dict[str, float]:
        """The four timeouts by name, in seconds; 0 is no timeout."""
        return {
            "connect_timeout": self.connect_timeout,
            "first_byte_timeout": self.first_byte_timeout,
            "idle_timeout": self.idle_timeout,
            "total_timeout": self.total_timeout,
        }
