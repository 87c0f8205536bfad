"""All that is looked for."""

from __future__ import annotations

from pathlib import Path

from fastwrap import _native
from fastwrap.doctor.check import Check
from fastwrap.doctor.devices import look_at_gpus
from fastwrap.doctor.engine import look_at_engine
from fastwrap.doctor.machine import (
    look_at_files,
    look_at_keys,
    look_at_port,
    look_at_python,
    look_at_socket,
    look_for_package,
)

_SERVERS = (
    "--server granian: ASGI, composes and can be mounted; adds about 0.3 ms to a request\n"
    "--server native: no Python on a request's way; adds about as much as nginx (x 1.4)"
)


def examine(  # noqa: PLR0913 (the command's options)
    upstream: str, host: str, port: int, uds: str, *, api_key_file: str, upstream_api_key_file: str
) -> list[Check]:
    """Look for everything; ``upstream`` and the files may be empty."""
    clients, _ = look_at_keys("keys", "--api-key-file", api_key_file)
    own, engine_keys = look_at_keys("engine's key", "--upstream-api-key-file", upstream_api_key_file)
    return [
        look_at_python(),
        Check("fastwrap", "ok", f"{_native.__version__}, native module loaded"),
        look_for_package("granian"),
        look_for_package("uvloop"),
        Check("servers", "ok", _SERVERS),
        *look_at_gpus(),
        look_at_files(),
        look_at_socket(Path(uds).absolute()) if uds else look_at_port(host, port),
        *clients,
        *own,
        *look_at_engine(upstream, *engine_keys[:1]),
    ]
