"""The contract of plugins: what a hook gets, and what it may give. See docs/hooks.md."""

from __future__ import annotations

from fastwrap.hooks.contract import Arrival, FirstToken, Record, Reject, Request, hookimpl

__all__ = ["Arrival", "FirstToken", "Record", "Reject", "Request", "hookimpl"]
