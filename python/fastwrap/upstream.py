"""httpx's way to the engine: for what a microsecond does not matter to, and for the reference relay.

This is the only module that imports httpx; its exceptions end here.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx  # noqa: TID251 (the one place)

from fastwrap.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from fastwrap.relays.base import HeaderList, Headers

_UNIX = "unix:"
#: Many times an engine's page of metrics, the longest that is asked for.
_MAX_REPLY_BYTES = 8 << 20


@contextlib.contextmanager
def _translated(read_timeout: str = "first_byte_timeout") -> Iterator[None]:
    """Turn httpx's exceptions into :class:`EngineError`; ``read_timeout`` is the fault that a silence is."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise EngineError(_fault(error, read_timeout), f"{type(error).__name__}: {error}") from error


def _fault(error: Exception, read_timeout: str) -> str:
    match error:
        case httpx.ConnectTimeout():
            return "connect_timeout"
        case httpx.ConnectError():
            return "engine_unreachable"
        case httpx.ReadTimeout():
            return read_timeout
        case httpx.InvalidURL() | httpx.LocalProtocolError():
            return "bad_request"
        case _:
            return "engine_closed_connection"


def _trusted(base: httpx.URL) -> ssl.SSLContext | bool:
    """The machine's certificates and ``SSL_CERT_FILE``, as in the native relay; httpx would take certifi's."""
    return ssl.create_default_context() if base.scheme == "https" else False


@dataclass(frozen=True)
class Reply:
    """A whole answer of the engine's, and how many seconds it took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float = 0.0


class Answer:
    """An answer whose body is still to come.

    Attributes:
        status: The status code.
        headers: As received.
        sent_ns: When the last byte of the request was written to the engine.
    """

    def __init__(self, response: httpx.Response, sent_ns: int) -> None:
        self._response = response
        self.status = response.status_code
        self.headers: HeaderList = list(response.headers.raw)
        self.sent_ns = sent_ns

    async def chunks(self) -> AsyncIterator[tuple[int, bytes]]:
        """Yield the time of arrival and the bytes, as they come.

        Raises:
            EngineError: If the answer breaks off.
        """
        with _translated("idle_timeout"):
            async for chunk in self._response.aiter_raw():
                yield time.monotonic_ns(), chunk

    async def close(self) -> None:
        """Let the connection go: closed, unless the answer was read to its end."""
        with contextlib.suppress(httpx.HTTPError):
            await self._response.aclose()


class Upstream:
    """A client of the one origin that is ever contacted: no redirect, no proxy of the environment's.

    Args:
        url: ``http://HOST:PORT``, ``https://HOST`` or ``unix:/PATH``.
        connect_timeout: Seconds; 0 for no limit. So are the others.
        first_byte_timeout: From the request's last byte to the answer's head.
        idle_timeout: Between two pieces of the answer.
    """

    def __init__(
        self, url: str, *, connect_timeout: float, first_byte_timeout: float = 0.0, idle_timeout: float = 0.0
    ) -> None:
        uds = url.removeprefix(_UNIX) if url.startswith(_UNIX) else None
        if uds is not None:
            uds = "/" + uds.lstrip("/")
        self._base = httpx.URL("http://localhost" if uds else url)
        self._prefix = self._base.raw_path.rstrip(b"/")
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=64, keepalive_expiry=4.0)
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=uds, verify=_trusted(self._base), limits=limits, trust_env=False),
            trust_env=False,
            follow_redirects=False,
        )
        self._idle_timeout = idle_timeout or None
        self._timeout = httpx.Timeout(None, connect=connect_timeout or None, read=first_byte_timeout or None)

    @property
    def host(self) -> str:
        """The ``Host`` header."""
        return self._base.netloc.decode()

    async def get(self, path: str, timeout: float, key: str = "") -> Reply:
        """Ask for a path below the engine's root, on a connection of its own: what asks seldom leaves none open.

        Args:
            path: The path.
            timeout: Seconds for all of it.
            key: The engine's own, if it wants one.

        Raises:
            EngineError: If the engine cannot be asked, is silent for ``timeout`` seconds, or answers without end.
        """
        with _translated():
            url = self._base.copy_with(raw_path=self._prefix + path.encode())
            # Not compressed: what is bounded is what was sent.
            headers = {"connection": "close", "accept-encoding": "identity"}
            if key:
                headers["authorization"] = f"Bearer {key}"
            body = bytearray()
            began = time.monotonic()
            async with self._client.stream("GET", url, headers=headers, timeout=timeout) as response:
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > _MAX_REPLY_BYTES:
                        raise EngineError("reply_too_large", f"{path}: over {_MAX_REPLY_BYTES >> 20} MiB")
                    if time.monotonic() - began > 2 * timeout:
                        raise EngineError("total_timeout", f"{path}: over {2 * timeout:g} s")
            return Reply(response.status_code, response.headers, bytes(body), time.monotonic() - began)

    async def send(self, method: str, target: bytes, headers: Headers, body: bytes | AsyncIterator[bytes]) -> Answer:
        """Send a request and wait for the head of its answer.

        Raises:
            EngineError: If there is none.
        """
        sent_ns = 0

        async def trace(event: str, _info: Mapping[str, Any]) -> None:
            nonlocal sent_ns
            if event == "http11.send_request_body.complete":
                sent_ns = time.monotonic_ns()

        timeout = self._timeout.as_dict()
        with _translated():
            request = httpx.Request(
                method,
                self._base,
                headers=list(headers),
                content=body,
                # The target as it is: httpx would normalise it in an URL.
                extensions={"trace": trace, "timeout": timeout, "target": self._prefix + target},
            )
            response = await self._client.send(request, stream=True)
        timeout["read"] = self._idle_timeout  # read by httpcore when the body is first asked for
        return Answer(response, sent_ns)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
