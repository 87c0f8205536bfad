"""``python -m fastwrap``."""

from __future__ import annotations

from fastwrap.cli import main

if __name__ == "__main__":
    main(prog_name="fastwrap")
