"""No signal is lost, or blocks Granian's processes, whenever it comes."""

from __future__ import annotations

import signal
import subprocess
import sys

from proxy.processes import DEADLINE_S

#: So often that some come while the event's own lock is held, if it has one.
WAITING = """
import signal
from fastwrap.servers.base import Address
from fastwrap.servers.granian import _Wakening

came = 0
def on_signal(*_):
    global came
    came += 1
    wakening.set()

wakening = _Wakening(Address("127.0.0.1", 1), lambda _: None, lambda: None)
signal.signal(signal.SIGALRM, on_signal)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
while came < 3000:
    wakening.wait(0.001)
    wakening.clear()
signal.setitimer(signal.ITIMER_REAL, 0)
assert not wakening.wait(0.001)
wakening.set()
assert wakening.wait()
assert wakening.wait()
"""

LOADING = """
import signal, sys
from fastwrap.servers import granian
from fastwrap.settings import Settings

signal.signal(signal.SIGTERM, lambda *_: None)  # as of the server that has forked the worker
granian._load(Settings(upstream="http://127.0.0.1:1"), None, None, parent=-1)
sys.exit("it lives on")
"""


def run(program: str) -> tuple[int, str]:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stderr


def test_a_signal_may_come_at_any_moment_of_the_waiting() -> None:
    """Its handler sets what the thread that it interrupts waits on."""
    assert run(WAITING) == (0, "")


def test_a_worker_whose_server_died_while_it_loaded_ends() -> None:
    """It has been forked with the server's handlers, which mean nothing to it."""
    assert run(LOADING) == (-signal.SIGKILL, "")
