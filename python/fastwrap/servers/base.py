"""What both servers need."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fastwrap.errors import PortError

if TYPE_CHECKING:
    from fastwrap.settings import Settings


@dataclass(frozen=True)
class Address:
    """Where a server listens: at host and port, with or without TLS, or at a Unix-domain socket's file."""

    host: str
    port: int
    path: Path | None = None
    tls: bool = False

    def __str__(self) -> str:
        """Return it as a client is told."""
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"

    def connect(self, seconds: float) -> socket.socket:
        """Return a connection.

        Raises:
            OSError: If there is none within this time.
        """
        if self.path is None:
            return socket.create_connection((self.host, self.port), seconds)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(str(self.path))
        except OSError:
            connection.close()
            raise
        return connection

    def withdraw(self) -> None:
        """Take the file away, if it is one: nobody finds the server any more."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


def claim(settings: Settings) -> Address:
    """Return where to listen.

    Raises:
        PortError: If it cannot be listened on.
    """
    if settings.uds:
        return Address("localhost", 0, claim_path(settings.uds))
    return Address(settings.host, claim_port(settings.host, settings.port), tls=bool(settings.tls_certificate))


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


def claim_path(name: str) -> Path:
    """Return the path of the socket's file to be made, with nothing there.

    A server that was killed leaves its file behind; nobody could listen there again while it is.

    Raises:
        PortError: If the file cannot be made, or somebody listens there.
    """
    path = Path(name).absolute()
    if is_socket(path) and not is_listened_on(path):
        path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(str(path))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                hint = f"cannot be listened on: {error.strerror or error}"
            elif is_socket(path):
                hint = "is taken: stop what listens there, or choose another one with --uds"
            else:
                hint = "is there and is no socket: choose another one with --uds"
            raise PortError(f"{path} {hint}") from error
        path.unlink()
    return path


def is_socket(path: Path) -> bool:
    """Whether the file is there, and a socket's."""
    with contextlib.suppress(OSError):
        return path.is_socket()
    return False


def is_listened_on(path: Path) -> bool:
    """Whether anybody listens there; yes, too, if that cannot be told."""
    try:
        Address("", 0, path).connect(1.0).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def configure_logging(settings: Settings) -> None:
    """Log to standard error, as much as was asked for."""
    logging.basicConfig(level=settings.log_level.upper(), format=LOG_FORMAT)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request at info
