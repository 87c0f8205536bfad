"""The two servers: Granian, composable, and the native one, for the least overhead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastwrap import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastwrap.gate import Gate
    from fastwrap.settings import Settings


def serve(settings: Settings, on_start: Callable[[str], None], gate: Gate | None = None) -> None:
    """Serve under the server that the settings name, until SIGINT or SIGTERM.

    Args:
        settings: What was asked for.
        on_start: Called with where it listens, when it serves.
        gate: Before an engine that fastwrap itself started.

    Raises:
        PortError: If the address cannot be listened on.
    """
    descriptors.raise_limit()
    if settings.server == "native":
        from fastwrap.servers import native  # noqa: PLC0415 (neither needs the other)

        native.serve(settings, on_start, gate)
    else:
        from fastwrap.servers import granian  # noqa: PLC0415 (70 ms)

        granian.serve(settings, on_start, gate)
