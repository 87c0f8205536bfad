"""The life of a thread that samples beside the requests."""

from __future__ import annotations

import atexit
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class SamplingThread(threading.Thread):
    """A daemon that runs until it is told to stop; then it ends mostly at once.

    Args:
        name: As debuggers show it.
        wake: Ends its sleep in native code.
    """

    def __init__(self, name: str, wake: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self.stopping = threading.Event()
        self._wake = wake

    def start(self) -> None:
        """Start it and return at once; call it in the worker, after any fork.

        Raises:
            RuntimeError: If the system gives no more threads.
        """
        super().start()
        atexit.register(self.stop)  # a daemon thread that the interpreter ends in native code can abort the process

    def stop(self, timeout_s: float = 2.0) -> None:
        """End it; one that hangs is left behind after ``timeout_s``."""
        atexit.unregister(self.stop)
        self.stopping.set()
        self._wake()
        if self.is_alive():
            self.join(timeout_s)
