"""What fastwrap is known to change in a stream of vLLM's, because it asks for usage where the client did not.

Remove what is here when fastwrap no longer does: the tests then hold it to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.processes import Site
    from engines.wire import Json


def without(site: Site, body: Json, events: Sequence[Json | None]) -> list[Json | None]:
    """Return the events without the members that are known to differ."""
    asked = (body.get("stream_options") or {}).get("include_usage")
    if site.kind.name != "vllm" or asked or body.get("n", 1) == 1:
        return list(events)
    # Direct, it stands in every choice's last chunk; asked for usage, vLLM tells it only when the others have gone.
    return [
        event and {name: value for name, value in event.items() if name != "system_fingerprint"} for event in events
    ]
