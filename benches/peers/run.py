#!/usr/bin/env python3
"""What stands between a client and an engine, measured side by side: `python benches/peers/run.py --help`."""

from __future__ import annotations

from harness.command import main

if __name__ == "__main__":
    main()
