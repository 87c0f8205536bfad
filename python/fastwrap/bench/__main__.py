"""``python -m fastwrap.bench``."""

from __future__ import annotations

from fastwrap.bench.command import bench

if __name__ == "__main__":
    bench(prog_name="fastwrap bench")
