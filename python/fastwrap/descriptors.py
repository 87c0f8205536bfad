"""How many files and connections this process may have open."""

from __future__ import annotations

import contextlib
import resource
import sys


def raise_limit() -> int:
    """Raise the limit as far as the system allows, and return it.

    A stream takes two of them in a proxy, and many systems begin with 1,024.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that there is no limit, and then refuses it.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return _count(hard)
    return _count(soft)


def _count(limit: int) -> int:
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit
