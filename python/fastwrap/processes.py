"""The engine's own processes, where it runs on this machine, and their memory.

This is the only module that imports psutil; its exceptions end here. It takes 50 ms to import.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import psutil  # noqa: TID251 (the one place)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastwrap.gate import Gate

Reason = Literal["engine_remote", "process_not_found", "no_permission"]
_UNIX = "unix:"
_PORTS = {"http": 80, "https": 443}
#: They listen for somebody else: what they take is not the engine's.
_FORWARDERS = frozenset({"docker-proxy", "rootlessport", "slirp4netns", "pasta", "passt", "ssh", "sshd", "kubectl"})
#: The tree is looked at anew after this, for processes come and go; and not in more than 1/100 of the time.
_LOOK_SECONDS = 2.0
_LOOK_COSTS = 100


class ProcessesError(Exception):
    """The engine's processes cannot be seen.

    Attributes:
        reason: The word for why not.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason


def engine_processes(upstream: str, gate: Gate | None = None) -> frozenset[int]:
    """Return the PIDs of the engine that fastwrap started, else of whoever listens there, and of all descendants.

    So vLLM's EngineCore, SGLang's schedulers and Ollama's runners are among them, and the shell that started the engine
    is not. It looks at all open files of all processes, which takes 15 ms or, on a large machine, far more: call it
    seldom, and not on an event loop.

    Args:
        upstream: ``http://HOST:PORT``, ``https://HOST`` or ``unix:/PATH``; empty where the engine is this process.
        gate: Says which process started the engine, if fastwrap did.

    Raises:
        ProcessesError: If the engine is on another machine (``engine_remote``), is not among the processes that can be
            seen from here, as in another container (``process_not_found``), or belongs to another user
            (``no_permission``).
    """
    return frozenset(process.pid for process in _tree(_roots(upstream, gate)))


def _roots(upstream: str, gate: Gate | None) -> list[psutil.Process]:
    if gate:
        return _started(gate.engine_pid)
    return _listeners(upstream) if upstream else [psutil.Process()]


def _started(holder: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        if holder and (children := psutil.Process(holder).children()):
            return children
    raise ProcessesError("process_not_found", "the engine has not been started")


def _listeners(upstream: str) -> list[psutil.Process]:
    try:
        found = _unix_owners(upstream) if upstream.startswith(_UNIX) else _tcp_owners(upstream)
    except psutil.AccessDenied as error:  # macOS shows the sockets of others to root only
        raise ProcessesError("no_permission", str(error)) from error
    if not found:
        raise ProcessesError("process_not_found", f"nobody listens at {upstream}")
    pids = {pid for pid in found if pid is not None}
    if not pids and os.geteuid() != 0:
        raise ProcessesError("no_permission", "another user's process listens there")
    processes = [process for process in map(_process, pids) if process is not None]
    if not processes:
        raise ProcessesError("process_not_found", "its listener is in another container, or only passes on")
    return processes


def _process(pid: int) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        return None if process.name() in _FORWARDERS else process
    except psutil.Error:
        return None


def _unix_owners(upstream: str) -> set[int | None]:
    path = os.path.realpath("/" + upstream.removeprefix(_UNIX).lstrip("/"))
    sockets = psutil.net_connections("unix")
    return {one.pid for one in sockets if one.laddr and os.path.realpath(str(one.laddr)) == path}


def _tcp_owners(upstream: str) -> set[int | None]:
    parts = urlsplit(upstream)
    port = parts.port or _PORTS[parts.scheme.lower()]
    addresses = _addresses(parts.hostname or "", port)
    own = {_plain(one.address) for addresses in psutil.net_if_addrs().values() for one in addresses}
    local = {address for address in addresses if ipaddress.ip_address(address).is_loopback or address in own}
    if not local:
        raise ProcessesError("engine_remote", f"{parts.hostname} is not this machine")
    wanted = {*local, "0.0.0.0", "::"}  # noqa: S104 (nothing is bound)
    places: list[tuple[Any, int | None]] = [
        (one.laddr, one.pid) for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN
    ]
    return {pid for place, pid in places if place.port == port and _plain(place.ip) in wanted}


def _addresses(host: str, port: int) -> set[str]:
    try:
        return {_plain(str(info[4][0])) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        raise ProcessesError("process_not_found", f"{host}: {error}") from error


def _plain(address: str) -> str:
    """An address without its zone; one of IPv4 in IPv6's clothes as IPv4."""
    return address.partition("%")[0].removeprefix("::ffff:")


def _tree(roots: Iterable[psutil.Process]) -> set[psutil.Process]:
    return {process for root in roots for process in (root, *_descendants(root))}


def _descendants(root: psutil.Process) -> list[psutil.Process]:
    try:
        return root.children(recursive=True)
    except psutil.Error:  # it has ended
        return []


class EngineMemory:
    """Reads the resident memory of the engine's processes; remembers which they are."""

    def __init__(self, upstream: str, gate: Gate | None = None) -> None:
        self._upstream = upstream
        self._gate = gate
        self._roots: list[psutil.Process] = []
        self._tree: set[psutil.Process] = set()
        self._look_at = 0.0

    def look(self) -> None:
        """See which processes they are, if it is time to.

        Raises:
            ProcessesError: As in :func:`engine_processes`.
        """
        began = time.monotonic()
        if began < self._look_at:
            return
        self._roots = [one for one in self._roots if one.is_running()] or _roots(self._upstream, self._gate)
        self._tree = _tree(self._roots)
        ended = time.monotonic()
        self._look_at = ended + max(_LOOK_SECONDS, _LOOK_COSTS * (ended - began))

    def read(self) -> tuple[int, int]:
        """Return the resident bytes of all processes together, and how many they are.

        It is RSS: a page that several of them share counts for each.

        Raises:
            ProcessesError: If all have ended, or may not be seen.
        """
        rss_bytes = [size for process in self._tree if (size := _rss_bytes(process)) is not None]
        if not rss_bytes:
            self._look_at = 0.0
            raise ProcessesError("process_not_found", "the engine has ended")
        return sum(rss_bytes), len(rss_bytes)


def _rss_bytes(process: psutil.Process) -> int | None:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:  # also one whose PID is another's now, when the tree is looked at anew
        return None
    except psutil.AccessDenied as error:
        raise ProcessesError("no_permission", str(error)) from error
