"""One look: what came of it, and how long it may take."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Status = Literal["ok", "warning", "problem"]
T = TypeVar("T")
MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Check:
    """One thing that was looked for.

    Attributes:
        name: What was looked for.
        status: ``problem`` only where fastwrap cannot serve.
        found: What is there.
        advice: What to do; empty where all is well.
    """

    name: str
    status: Status
    found: str
    advice: str = ""


def within(seconds: float, look: Callable[[], T]) -> T:
    """Return what ``look`` does, or raise TimeoutError: it then goes on in a thread that nobody waits for."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(look())
        except BaseException as error:  # noqa: BLE001 (handed to the caller)
            errors.append(error)

    thread = threading.Thread(target=run, name="fastwrap-doctor", daemon=True)
    thread.start()
    thread.join(seconds)
    if errors:
        raise errors[0]
    if not results:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return results[0]
