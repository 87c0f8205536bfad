"""Where the command begins: before anything that takes a while is imported."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line."""
    if os.getpid() == 1:
        # The kernel gives a container's first process only the signals that it handles, and SIGTERM would be lost until
        # a server, or the supervisor, handles it. Nothing has begun by then that would have to be ended well.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(128 + signal.SIGTERM))
    from fastwrap.cli import main as command  # noqa: PLC0415 (it takes a while)

    command(prog_name="fastwrap")
