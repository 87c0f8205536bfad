"""``python -m fastwrap``."""

from __future__ import annotations

from fastwrap.entry import main

if __name__ == "__main__":
    main()
