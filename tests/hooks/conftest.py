"""The proxies' stacks, for tests of hooks."""

from __future__ import annotations

from proxy.conftest import stack

__all__ = ["stack"]
