"""The settings of ``fastwrap serve`` and ``run``: one definition for command line, ``FASTWRAP_*`` and TOML file."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastwrap._native import check_certificate, check_origins, check_upstream
from fastwrap.errors import KeyFileError, SettingsError
from fastwrap.keys import read_keys
from fastwrap.translations import translation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BackendName = Literal[
    "auto", "openai", "vllm", "sglang", "tgi", "transformers", "llamacpp", "ollama", "lmdeploy", "tensorrtllm"
]
LogLevel = Literal["debug", "info", "warning", "error"]

ENRICH_PLACES = ("body", "usage", "header", "server-timing")
MEBIBYTE = 1 << 20
#: More than anybody means, and little enough for every integer type that a setting passes through.
_MOST = 1 << 48
_MOST_SECONDS = 1e9


def _option(  # noqa: PLR0913 (the columns of a table)
    group: str, default: Any, help_text: str, metavar: str | None = None, *, least: float = 0, most: float = _MOST
) -> Any:
    """A setting; ``least`` and ``most`` are for numbers."""
    metadata = {"group": group, "help": help_text, "metavar": metavar, "least": least, "most": most}
    return field(default=default, metadata=metadata)


def _seconds(default: float, help_text: str, group: str = "Timeouts (0: none)") -> Any:
    return _option(group, default, help_text, "SECONDS", most=_MOST_SECONDS)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``fastwrap serve`` was asked to do. Timeouts are in seconds, and 0 switches one off.

    Raises:
        SettingsError: If a value cannot be used; carries the setting's name.
    """

    upstream: str = _option("Engine", "", "The engine: http://HOST:PORT, https://HOST or unix:/PATH.", "URL")
    backend: BackendName = _option("Engine", "auto", "The kind of engine; auto asks it.", "NAME")  # noqa: RUF009 (a field)
    relay: Literal["native", "httpx"] = _option(
        "Engine", "native", "What speaks to the engine; httpx is the slow reference."
    )
    translate_chat: str = _option(
        "Engine",
        "",
        "Offer /v1/chat/completions before an engine that has only an API of its own: llamacpp (/completion), sglang "
        "or tgi (/generate), or module:Class of your own. In Python and slower; under Granian only.",
        "NAME",
    )
    upstream_api_key_file: str = _option(
        "Engine",
        "",
        "A file with the engine's own key in its first line: the engine gets it with every request, and never a "
        "client's Authorization.",
        "PATH",
    )

    host: str = _option("Clients", "127.0.0.1", "Address to listen on; 0.0.0.0 for all.", "ADDRESS")
    port: int = _option("Clients", 8080, "Port to listen on; 0 takes a free one and says which.", "PORT", most=65535)
    uds: str = _option("Clients", "", "Unix-domain socket to listen on, instead of host and port.", "PATH")
    server: Literal["granian", "native"] = _option(
        "Clients", "granian", "What serves the clients; native has the least overhead."
    )
    workers: int = _option(
        "Clients", 1, "Worker processes. One is enough for one engine.", "NUMBER", least=1, most=1024
    )
    grace: float = _seconds(30.0, "For requests in flight to end when fastwrap is told to stop.", "Clients")

    api_key_file: str = _option(
        "Protection",
        "",
        "A file of keys, one a line: only requests that carry one are let in, as Authorization: Bearer KEY or "
        "x-api-key: KEY; others get 401. New keys count within seconds. Probes of /-/healthy and /-/ready need none.",
        "PATH",
    )
    tls_certificate: str = _option(
        "Protection", "", "Serve HTTPS (TLS 1.3) with this PEM chain of certificates; --server granian only.", "PATH"
    )
    tls_key: str = _option("Protection", "", "The certificate's private key: PEM, not encrypted.", "PATH")
    cors_origins: str = _option(
        "Protection",
        "",
        "Web pages of these origins may read answers: https://app.example,http://localhost:3000, or * for all. "
        "Preflights are then answered here.",
        "LIST",
    )

    enrich: str = _option(
        "Measuring", "body", "Where the numbers go: any of body,usage,header,server-timing; or none.", "PLACES"
    )
    gpu: Literal["auto", "off"] = _option("Measuring", "auto", "Sample GPU memory, energy and load through NVML.")
    gpu_devices: str = _option(
        "Measuring", "", "GPUs to sample, as in CUDA_VISIBLE_DEVICES, or all; else those that the engine uses.", "LIST"
    )
    measure_json_as_stream: bool = _option(
        "Measuring",
        default=False,
        help_text="Ask the engine for a stream where a client asks for JSON, and assemble that JSON: the only way to a "
        "true time to first token for it.",
    )
    engine_samples: Literal["auto", "off"] = _option(
        "Measuring", "auto", "Read the engine's own gauges, and the memory of its processes."
    )
    stall_ms: float = _option("Measuring", 1000.0, "A longer gap between chunks is a stall.", "MS", most=_MOST_SECONDS)

    plugin: tuple[str, ...] = _option(
        "Plugins",
        (),
        "A plugin, module:object?option=value; may be given more than once. In the environment they are parted by "
        "spaces. Those of installed packages are loaded anyhow.",
        "NAME",
    )
    hook_timeout: float = _seconds(
        1.0,
        "For plugins to validate a request, which then goes on, unless one of them fails closed; 0: any time.",
        "Plugins",
    )

    max_body_bytes: int = _option(
        "Limits", 64 * MEBIBYTE, "Largest request body; a larger one gets 413.", "BYTES", least=1
    )
    max_header_bytes: int = _option(
        "Limits", 64 << 10, "Most bytes of request headers; more get 431.", "BYTES", least=1
    )
    max_inflight: int = _option(
        "Limits", 0, "Most requests in flight per worker, 0 for any number; more get 503.", "NUMBER"
    )

    header_timeout: float = _seconds(30.0, "For a client to send a request's head, and between two requests.")
    body_timeout: float = _seconds(
        60.0, "Of silence in the middle of a request's body; and for all of it, with 2 ms a byte more."
    )
    connect_timeout: float = _seconds(5.0, "For the engine to accept a connection.")
    first_byte_timeout: float = _seconds(600.0, "For the engine to begin its answer.")
    idle_timeout: float = _seconds(300.0, "Of silence in the middle of an answer.")
    total_timeout: float = _seconds(0.0, "For a whole request.")

    log_level: LogLevel = _option(  # noqa: RUF009 (a field)
        "Other", "info", "How much is logged. Prompts, answers and keys never are.", "LEVEL"
    )

    def __post_init__(self) -> None:
        """Check what can be checked without touching the network."""
        if not self.upstream:
            raise SettingsError("upstream", "the engine's address is needed, for example http://127.0.0.1:8000")
        with _blamed_on("upstream"):
            check_upstream(self.upstream)
        # An OpenAI base URL ends in /v1, and so does every path that clients send: the engine's root is meant.
        object.__setattr__(self, "upstream", self.upstream.rstrip("/").removesuffix("/v1"))
        if self.relay == "httpx" and self.server == "native":
            raise SettingsError("relay", "httpx is for --server granian; the native server has its own relay only")
        if self.translate_chat:
            self._check_translation()
        self._check_protection()
        _check_places(self.enrich_places)
        _check_ranges(self)

    def _check_translation(self) -> None:
        with _blamed_on("translate_chat"):
            translation(self.translate_chat)
        if self.server == "native":
            hint = "the native server has no Python on a request's way: use --server granian"
            raise SettingsError("translate_chat", hint)

    def _check_protection(self) -> None:
        for name in ("api_key_file", "upstream_api_key_file"):
            with _blamed_on(name):
                if path := getattr(self, name):
                    read_keys(path)
        with _blamed_on("cors_origins"):
            if self.cors_origins:
                check_origins(self.cors_origins)
        if self.tls_certificate or self.tls_key:
            self._check_tls()

    def _check_tls(self) -> None:
        if not self.tls_key:
            raise SettingsError("tls_certificate", "its private key is needed, too: --tls-key")
        if not self.tls_certificate:
            raise SettingsError("tls_key", "its certificate is needed, too: --tls-certificate")
        if self.server == "native":
            hint = "the native server speaks no TLS: use --server granian, or put what ends TLS in front of it"
            raise SettingsError("tls_certificate", hint)
        if self.uds:
            raise SettingsError("tls_certificate", "TLS is for a port, and --uds is given: leave out one of them")
        _check_certificate(self.tls_certificate, self.tls_key)

    @property
    def enrich_places(self) -> tuple[str, ...]:
        """The places named by ``enrich``; empty for none."""
        return _places(self.enrich)

    @property
    def has_plugins(self) -> bool:
        """Whether plugins are named, or installed."""
        from importlib.metadata import entry_points  # noqa: PLC0415 (50 ms, for those who serve)

        return bool(self.plugin or entry_points(group="fastwrap"))

    @property
    def timeouts(self) -> dict[str, float]:
        """The four timeouts of the way to the engine by name, in seconds; 0 is no timeout."""
        return {
            "connect_timeout": self.connect_timeout,
            "first_byte_timeout": self.first_byte_timeout,
            "idle_timeout": self.idle_timeout,
            "total_timeout": self.total_timeout,
        }


@contextlib.contextmanager
def _blamed_on(option: str) -> Iterator[None]:
    """Make what a check raises the error of this option."""
    try:
        yield
    except (KeyFileError, ValueError) as error:
        raise SettingsError(option, str(error)) from error
    except OSError as error:
        raise SettingsError(option, f"{error.filename} cannot be read: {error.strerror}") from error


def _check_certificate(certificate: str, key: str) -> None:
    import ssl  # noqa: PLC0415 (20 ms, for those who use it)

    pem = {}
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        with _blamed_on(name):
            pem[name] = Path(path).read_bytes()

    def password() -> str:
        raise SettingsError("tls_key", f"{key} is encrypted: take its password off, as by: openssl pkey -in {key}")

    try:  # as Granian does: first with OpenSSL, then in its workers with rustls
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password)
        check_certificate(pem["tls_certificate"], pem["tls_key"])
    except (ssl.SSLError, ValueError) as error:
        what = f"{certificate} and {key} cannot be used as a certificate and its private key, both PEM"
        raise SettingsError("tls_certificate", f"{what}: {getattr(error, 'reason', None) or error}") from error


@dataclass(frozen=True, kw_only=True)
class Supervision:
    """What ``fastwrap run`` was asked to do with the engine that it starts; 0 seconds are no limit.

    Raises:
        SettingsError: If a value cannot be used; carries the setting's name.
    """

    restart: Literal["never", "on-failure"] = _option(
        "Engine's process", "never", "Whether an engine that ends with an error is started again."
    )
    engine_log: str = _option(
        "Engine's process", "", "File that the engine's output is appended to; else it is passed on.", "PATH"
    )
    start_timeout: float = _seconds(
        0.0, "For the engine to get ready, else it is ended; 0: any time.", "Engine's process"
    )
    stop_timeout: float = _seconds(
        15.0, "For the engine to end by itself, else it is killed; 0: any time.", "Engine's process"
    )

    def __post_init__(self) -> None:
        """Check the numbers."""
        _check_ranges(self)


def _same(name: str) -> Any:
    """A setting of ``fastwrap serve`` that another program has, too."""
    of_serve = Settings.__dataclass_fields__[name]
    return field(default=of_serve.default, metadata=of_serve.metadata)


@dataclass(frozen=True, kw_only=True)
class InProcessSettings:
    """What :class:`fastwrap.middleware.PerformanceMiddleware` was asked to do: those settings of ``serve`` that apply.

    Raises:
        SettingsError: If a value cannot be used; carries the setting's name.
    """

    backend: BackendName = _same("backend")  # noqa: RUF009 (a field)
    enrich: str = _same("enrich")
    gpu: Literal["auto", "off"] = _same("gpu")
    gpu_devices: str = _same("gpu_devices")
    engine_samples: Literal["auto", "off"] = _same("engine_samples")
    stall_ms: float = _same("stall_ms")
    max_body_bytes: int = _same("max_body_bytes")

    def __post_init__(self) -> None:
        """Check what can be checked."""
        _check_places(_places(self.enrich))
        _check_ranges(self)


def _places(enrich: str) -> tuple[str, ...]:
    return tuple(place for place in (word.strip() for word in enrich.split(",")) if place not in ("none", ""))


def _check_places(places: Iterable[str]) -> None:
    for place in places:
        if place not in ENRICH_PLACES:
            raise SettingsError("enrich", f"{place!r} is no place: use any of {', '.join(ENRICH_PLACES)}; or none")


def _check_ranges(settings: Settings | Supervision | InProcessSettings) -> None:
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if isinstance(value, (int, float)):
            _check_range(setting.name, value, setting.metadata["least"], setting.metadata["most"])


def _check_range(name: str, value: float, least: float, most: float) -> None:
    if not math.isfinite(value) or not least <= value <= most:
        raise SettingsError(name, f"{value:.15g} cannot be used: it must be {least:.15g} to {most:.15g}")
