"""Reads from the command that starts an engine which it is, and where it will listen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fastwrap.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastwrap.settings import BackendName

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
#: Addresses that are all of the machine's, and the one to be asked instead.
_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 (nothing is bound)
_SCHEME_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Launcher:
    """How an engine is told where to listen.

    Attributes:
        backend: As in ``--backend``.
        words: What stands in its command: the first may have a directory before it.
        port: Its default.
        flags: Its options for the port, the host and a socket's path.
        variables: Those of the environment for the port and the host; an option comes before them.
    """

    backend: BackendName
    words: tuple[str, ...]
    port: int
    flags: tuple[Sequence[str], Sequence[str], Sequence[str]] = (("--port",), ("--host",), ())
    variables: tuple[str, str] = ("", "")


_VLLM_FLAGS = (("--port",), ("--host",), ("--uds",))
_LAUNCHERS = (
    Launcher("vllm", ("vllm", "serve"), 8000, _VLLM_FLAGS),
    Launcher("vllm", ("-m", "vllm.entrypoints.openai.api_server"), 8000, _VLLM_FLAGS),
    Launcher("sglang", ("-m", "sglang.launch_server"), 30000),
    Launcher("sglang", ("sglang", "serve"), 30000),
    Launcher("tgi", ("text-generation-launcher",), 3000, (("-p", "--port"), ("--hostname",), ()), ("PORT", "HOSTNAME")),
    Launcher("transformers", ("transformers", "serve"), 8000),
    Launcher("llamacpp", ("llama-server",), 8080, variables=("LLAMA_ARG_PORT", "LLAMA_ARG_HOST")),
    Launcher("ollama", ("ollama", "serve"), 11434, variables=("", "OLLAMA_HOST")),
    Launcher("auto", ("fastwrap", "engine"), 8000),
)


@dataclass(frozen=True)
class Launch:
    """What a command starts: the kind of engine, and its address as ``--upstream`` has it."""

    backend: BackendName
    upstream: str


def recognise(command: Sequence[str], environment: Mapping[str, str]) -> Launch | None:
    """Return what a command starts; None if it is no engine's that is known.

    Args:
        command: The command, which may have others before it, as ``env`` or ``nice``.
        environment: The variables that it gets.

    Raises:
        SettingsError: If it names a port that is none.
    """
    for launcher in _LAUNCHERS:
        for at in range(len(command)):
            words = (PurePath(command[at]).name, *command[at + 1 : at + len(launcher.words)])
            if words == launcher.words:
                assigned = dict(word.split("=", 1) for word in command[:at] if _ASSIGNMENT.match(word))
                place = _place(launcher, command[at + len(launcher.words) :], {**environment, **assigned})
                return Launch(launcher.backend, place)
    return None


def _place(launcher: Launcher, arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    port, host, uds = (_value(arguments, flags) for flags in launcher.flags)
    port_variable, host_variable = launcher.variables
    host = host or environment.get(host_variable, "")
    path = uds or (host if host.endswith(".sock") else "")
    if path:
        return f"unix:{Path(path).absolute()}"
    port = port or environment.get(port_variable, "")
    if launcher.backend == "ollama":
        host, port = _ollama(host, launcher.port)
    return _url(host, port or str(launcher.port))


def _value(arguments: Sequence[str], flags: Sequence[str]) -> str:
    """The last value of an option, ``--name value`` or ``--name=value``; empty if it is not given."""
    found = ""
    for word, following in zip(arguments, [*arguments, ""][1:], strict=True):
        name, equals, value = word.partition("=")
        if name in flags:
            found = value if equals else following
    return found


def _ollama(text: str, port: int) -> tuple[str, str]:
    """Host and port of ``OLLAMA_HOST``, ``[SCHEME://][HOST][:PORT]``."""
    parts = urlsplit(text if "://" in text else f"//{text}")
    named = parts.netloc.rpartition("]")[2].partition(":")[2]
    return parts.hostname or "", named or str(_SCHEME_PORTS.get(parts.scheme, port))


def _url(host: str, port: str) -> str:
    if not port.isdecimal() or not 0 < int(port) <= 65535:  # noqa: PLR2004 (the last port)
        raise SettingsError("upstream", f"the engine's command names {port!r} as its port, which cannot be asked")
    shown = _WILDCARDS.get(host, host.strip("[]"))
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"
