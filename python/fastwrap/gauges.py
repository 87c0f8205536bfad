"""An engine's own gauges: read off its page in Prometheus' format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The gauges in the order of a sample: KV cache in use (0 to 1), requests running, requests waiting.
NAMES = ("kv_cache_usage", "running", "waiting")
#: Of several engines behind one address (data parallelism) the fullest cache counts, and all requests do.
_TOGETHER: tuple[Callable[[Iterable[int]], int], ...] = (max, sum, sum)
_MILLION = 1_000_000


def read(page: bytes, gauges: Sequence[tuple[str, str]]) -> list[int | None]:
    """Return the gauges of a page.

    Args:
        page: Of vLLM some 100 KB: only the lines that are wanted are parsed.
        gauges: As in :class:`fastwrap.backends.base.Backend`.

    Returns:
        A value for each of ``NAMES``, in millionths; None for one that the page does not have.

    Raises:
        ValueError: If the page cannot be read.
    """
    from prometheus_client.parser import text_string_to_metric_families  # noqa: PLC0415 (start-up time)

    names = dict(gauges)
    starts = tuple(name.encode() for name in names)
    lines = b"\n".join(line for line in page.split(b"\n") if line.startswith(starts))
    found: dict[str, list[int]] = {name: [] for name in NAMES}
    for family in text_string_to_metric_families(lines.decode() + "\n"):
        for sample in family.samples:
            if sample.name in names and math.isfinite(sample.value):
                found[names[sample.name]].append(max(0, round(sample.value * _MILLION)))
    return [together(found[name]) if found[name] else None for name, together in zip(NAMES, _TOGETHER, strict=True)]
