"""What fastwrap is known to change in a stream of vLLM's, because it asks for usage where the client did not.

Remove what is here when fastwrap no longer does: the tests then hold it to that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engines.processes import Site
    from engines.wire import Json


def without(site: Site, body: Json, events: Sequence[Json | None], *, ours: bool) -> list[Json | None]:
    """Return the events without the members that are known to differ; `ours` came through fastwrap."""
    asked = (body.get("stream_options") or {}).get("include_usage")
    names = set()
    if site.kind.name == "vllm" and not asked:
        if ours:  # --enable-per-request-metrics: they come with usage, and stay when that is taken out
            names.add("metrics")
        if body.get("n", 1) > 1:  # stands in the last choice's last chunk alone, not in every choice's
            names.add("system_fingerprint")
    return [event and {name: value for name, value in event.items() if name not in names} for event in events]
