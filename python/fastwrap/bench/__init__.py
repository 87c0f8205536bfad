"""``fastwrap bench``: what a way to an engine adds, measured so that it can be trusted.

The load generator is native (``rust/fastwrap-bench``); here are its command line and its reports.
"""

from __future__ import annotations

from fastwrap.bench.command import bench

__all__ = ["bench"]
