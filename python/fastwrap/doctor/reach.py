"""Whether anybody listens at an engine's address."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

_UNIX = "unix:"


def reach(upstream: str, seconds: float | None) -> None:
    """Connect to a valid address, and hang up.

    Raises:
        OSError: If nobody listens.
    """
    if upstream.startswith(_UNIX):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(seconds)
            connection.connect("/" + upstream.removeprefix(_UNIX).lstrip("/"))
        return
    parts = urlsplit(upstream)
    port = parts.port or (443 if parts.scheme.lower() == "https" else 80)
    socket.create_connection((parts.hostname or "", port), seconds).close()
