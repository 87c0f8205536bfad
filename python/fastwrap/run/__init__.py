"""``fastwrap run``: starts the engine, stands before it, and ends with it. A container's entry point."""

from __future__ import annotations

from fastwrap.run.command import run

__all__ = ["run"]
