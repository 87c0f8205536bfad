#!/usr/bin/env python3
"""Set up, build and run fastwrap from a checkout: `python3 dev.py demo` and `python3 dev.py test`.

Needs Python 3.10 or later with venv, and a Rust toolchain. Everything else goes into .venv and target beside
this file. Arguments after the command are passed on: `python3 dev.py test -k stream` runs the checks and those
tests alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
BIN = ENVIRONMENT / "bin"
OLDEST_PYTHON = (3, 10)

#: What `test` runs before pytest. A Rust toolchain without its optional components runs what it can.
CHECKS = (
    ("cargo", "fmt", "--all", "--check"),
    ("cargo", "clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"),
    ("cargo", "test", "--workspace", "--quiet"),
    ("ruff", "check"),
    ("ruff", "format", "--check"),
    ("mypy",),
    ("python", "-m", "mypy.stubtest", "fastwrap._native"),
    ("lint-imports", "--no-cache"),
)
RUSTUP_COMPONENTS = {"fmt": "rustfmt", "clippy": "clippy"}


def say(text: str) -> None:
    """Print a step, at once."""
    print(f"── {text}", flush=True)


def run(*command: str) -> None:
    """Run a command of the environment; leave with its status if it fails."""
    began = time.monotonic()
    say(" ".join(command))
    path = os.pathsep.join((str(BIN), os.environ["PATH"]))
    env = os.environ | {"PATH": path, "VIRTUAL_ENV": str(ENVIRONMENT), "PYO3_PYTHON": str(BIN / "python")}
    program = shutil.which(command[0], path=path)
    if program is None:
        sys.exit(f"{command[0]} was not found")
    status = subprocess.run([program, *command[1:]], cwd=ROOT, env=env, check=False).returncode
    if status:
        sys.exit(status)
    say(f"done in {time.monotonic() - began:.1f} s")


def check_machine() -> None:
    """Say what is missing, before anything is installed."""
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"Python {'.'.join(map(str, OLDEST_PYTHON))} or later is needed; this is {sys.version.split()[0]}.")
    if shutil.which("cargo") is None:
        sys.exit("A Rust toolchain is needed (cargo was not found): see https://rustup.rs")


def has_component(command: tuple[str, ...]) -> bool:
    """Whether the Rust toolchain has what a check needs; says so if not."""
    component = RUSTUP_COMPONENTS.get(command[1]) if command[0] == "cargo" else None
    if component is None or os.environ.get("CI"):
        return True
    present = subprocess.run(["cargo", command[1], "--version"], capture_output=True, check=False).returncode == 0  # noqa: S607
    if not present:
        say(f"skipped: {' '.join(command)} (rustup component add {component})")
    return present


def build(extra: str) -> None:
    """Make the environment and put fastwrap into it."""
    if not (BIN / "python").exists():
        say(f"making an environment in {ENVIRONMENT.name}")
        venv.create(ENVIRONMENT, with_pip=True)
    say("installing, and building the native module (the first time takes two minutes)")
    run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--editable", f".{extra}")


def main() -> None:
    """Run one of the two commands."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command not in ("demo", "test"):
        sys.exit(__doc__)
    check_machine()
    if command == "demo":
        build("")
        run("fastwrap", "demo", *arguments)
        return
    build("[dev]")
    for check in CHECKS:
        if has_component(check):
            run(*check)
    run("pytest", *arguments)


if __name__ == "__main__":
    main()
