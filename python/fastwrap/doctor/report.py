"""What was found, for people and for machines."""

from __future__ import annotations

import json
import os
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastwrap.doctor.check import Check, Status


def worst(checks: Sequence[Check]) -> Status:
    """Return the status of the whole."""
    found = {check.status for check in checks}
    return "problem" if "problem" in found else "warning" if "warning" in found else "ok"


def to_json(checks: Sequence[Check]) -> str:
    """Return the checks for machines."""
    return json.dumps({"status": worst(checks), "checks": [asdict(check) for check in checks]}, indent=2)


def show(checks: Sequence[Check]) -> None:
    """Print the checks as a table, and a verdict."""
    from rich.console import Console  # noqa: PLC0415 (start-up time)
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    colours = {"ok": "green", "warning": "yellow", "problem": "bold red"}
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        found = Text(check.found)
        if check.advice:
            found.append(f"\n-> {check.advice}", style="bold")
        table.add_row(Text(check.status, style=colours[check.status]), check.name, found)
    console = Console(highlight=False)
    console.print(table)
    verdict = {
        "ok": "Everything is there.",
        "warning": "fastwrap can serve; the warnings say what will be missing.",
        "problem": "fastwrap cannot serve like this: see the problems above.",
    }
    console.print()
    console.print(Text(verdict[worst(checks)], style=colours[worst(checks)]))


def leave(code: int) -> NoReturn:
    """Exit, without waiting for a look that hangs in a library."""
    if not any(thread.name.startswith("asyncio") for thread in threading.enumerate()):
        sys.exit(code)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
