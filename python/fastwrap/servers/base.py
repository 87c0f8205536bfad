"""What both servers need."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING

from fastwrap.errors import PortError

if TYPE_CHECKING:
    from fastwrap.settings import Settings


def claim_port(host: str, port: int) -> int:
    """Return the port to listen on, a free one for 0.

    Workers share a port by ``SO_REUSEPORT``, and so would a server that was left running: therefore this looks first
    whether anybody listens.

    Raises:
        PortError: If the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                hint = "is taken: stop what listens there, or choose another one with --port"
            else:
                hint = f"cannot be listened on: {error.strerror}"
            raise PortError(f"{host}:{port} {hint}") from error
        chosen: int = probe.getsockname()[1]
    return chosen


def configure_logging(settings: Settings) -> None:
    """Log to standard error, as much as was asked for."""
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request at info
