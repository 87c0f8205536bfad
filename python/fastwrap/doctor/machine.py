"""What there is around fastwrap: interpreter, packages, files, and the place to listen at."""

from __future__ import annotations

import os
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path

from fastwrap.doctor.check import Check
from fastwrap.errors import KeyFileError, PortError
from fastwrap.keys import OTHERS_MAY_READ, read_keys
from fastwrap.servers.base import claim_port, is_listened_on, is_socket

_OLDEST_PYTHON = (3, 10)
#: A request in flight holds two descriptors: below this, a few thousand clients at once are too many.
_FEW_FILES = 4096
_MANY_FILES = 1 << 20


def look_at_python() -> Check:
    """Look at the interpreter."""
    system = f"{platform.system()} {platform.machine()}"
    found = f"{platform.python_implementation()} {platform.python_version()} on {system}"
    if sys.version_info < _OLDEST_PYTHON:
        return Check("Python", "problem", found, "fastwrap needs CPython 3.10 or newer")
    return Check("Python", "ok", found)


def look_for_package(name: str) -> Check:
    """Look for a package that has to be installed."""
    try:
        return Check(name, "ok", metadata.version(name))
    except metadata.PackageNotFoundError:
        return Check(name, "problem", "not installed", f"{sys.executable} -m pip install {name}")


def look_at_files() -> Check:
    """Look how many files may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = {resource.RLIM_INFINITY: "any number"}
    found = f"{shown.get(soft, soft)} (at most {shown.get(hard, hard)})"
    if soft == resource.RLIM_INFINITY or soft >= _FEW_FILES:
        return Check("open files", "ok", found)
    advice = f"a request in flight takes two: ulimit -n {hard if _FEW_FILES < hard < _MANY_FILES else 65536}"
    return Check("open files", "warning", found, advice)


def look_at_port(host: str, port: int) -> Check:
    """Look whether a port is free."""
    try:
        claim_port(host, port)
    except OverflowError:
        return Check("port", "problem", f"{port} is no port", "use 0 to 65535")
    except PortError as error:
        found, _, hint = str(error).partition(" is taken: ")
        if hint:
            return Check("port", "problem", f"{found} is taken", hint)
        return Check("port", "problem", str(error), "choose another one with --host and --port")
    return Check("port", "ok", f"{host}:{port} is free" if port else f"{host}: a free one will be taken")


def look_at_socket(path: Path) -> Check:
    """Look whether a Unix-domain socket can be made."""
    if is_socket(path):
        if is_listened_on(path):
            return Check("socket", "problem", f"{path} is taken", "stop what listens there, or choose another --uds")
        return Check("socket", "ok", f"{path} was left behind, and will be replaced")
    if os.path.lexists(path):
        return Check("socket", "problem", f"{path} is no socket", "choose another one with --uds")
    if not os.access(path.parent, os.W_OK):
        return Check("socket", "problem", f"{path.parent} cannot be written to", "choose another one with --uds")
    return Check("socket", "ok", f"{path} is free")


def look_at_keys(name: str, option: str, path: str) -> tuple[list[Check], list[str]]:
    """Look at a file of keys, if one is given; also return them."""
    if not path:
        return [], []
    try:
        keys = read_keys(path)
    except KeyFileError as error:
        return [Check(name, "problem", str(error), f"correct {option}")], []
    found = f"{path}: {len(keys)} {'keys' if len(keys) > 1 else 'key'}"
    if Path(path).stat().st_mode & OTHERS_MAY_READ:
        return [Check(name, "warning", f"{found}, and others can read it", f"chmod 600 {path}")], keys
    return [Check(name, "ok", found)], keys
