"""What fastwrap is to reach, and whether it did: each promise is a figure against somebody else's, in one scenario."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.figures import Estimate, ratio, read
from harness.scenario import (
    ADDED_P50,
    ADDED_TTFT,
    CHUNKS,
    CPU_CHUNK,
    CPU_REQUEST,
    MEMORY,
    REQUESTS,
    TRANSIT_P50,
    TRANSIT_P99,
    TTFT,
    WALL,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from harness.measure import Outcome
    from harness.scenario import Figure

_ROUTERS = ("envoy", "vllm-router", "smg", "sglang-router", "litellm")
_NATIVE, _GRANIAN = "fastwrap-native", "fastwrap-granian"


@dataclass(frozen=True)
class Promise:
    """One line.

    Attributes:
        proxy: Who is to reach it.
        scenario: Where.
        figure: What.
        against: Whose figure it is divided by; with several, the one that makes it hardest; with none, nobody's.
        must: The bound: the most, or for throughputs the least.
        aim: What would be better still.
        placements: Where it holds.
    """

    proxy: str
    scenario: str
    figure: Figure
    against: tuple[str, ...]
    must: float
    aim: float | None = None
    placements: str = "X"

    @property
    def at_least(self) -> bool:
        """Whether more is better."""
        return self.figure in (REQUESTS, CHUNKS)


PROMISES = (
    Promise(_NATIVE, "json-c1", ADDED_P50, ("nginx",), 1.4, 1.0, "SX"),
    Promise(_NATIVE, "json-c1", ADDED_P50, _ROUTERS, 1.0, None, "SX"),
    Promise(_NATIVE, "json-c32", REQUESTS, ("nginx",), 0.75, 1.0),
    Promise(_NATIVE, "sse-first", ADDED_TTFT, ("nginx",), 1.5, 1.0),
    Promise(_NATIVE, "sse-paced-32", TRANSIT_P50, ("nginx",), 1.2, 1.0),
    Promise(_NATIVE, "sse-paced-32", TRANSIT_P99, ("nginx",), 1.5, 1.0),
    Promise(_NATIVE, "sse-paced-32", CPU_CHUNK, ("nginx",), 1.25, 1.0),
    Promise(_NATIVE, "sse-paced-1000", CPU_CHUNK, ("nginx",), 1.4, 1.0),
    Promise(_NATIVE, "burst", CHUNKS, ("nginx",), 0.95, 1.2),
    Promise(_NATIVE, "burst", TTFT, ("nginx",), 1.0),
    Promise(_NATIVE, "burst-long", CHUNKS, ("nginx",), 0.95, 1.2),
    Promise(_NATIVE, "burst-long", TTFT, ("nginx",), 1.0),
    Promise(_NATIVE, "body-8mib", WALL, ("nginx-unbuffered",), 1.15, 1.0),
    Promise(_NATIVE, "body-8mib", CPU_REQUEST, ("nginx-unbuffered",), 1.3, 1.0),
    Promise(_NATIVE, "memory-5000", MEMORY, (), 40, 25),
    Promise(_GRANIAN, "json-c1", ADDED_P50, ("echo",), 1.7, 1.25, "S"),
    Promise(_GRANIAN, "json-c1", ADDED_P50, ("smg", "litellm"), 1.0, None, "S"),
    Promise(_GRANIAN, "json-c32", REQUESTS, ("echo",), 0.7, 0.85),
    Promise(_GRANIAN, "sse-paced-32", CPU_CHUNK, ("echo",), 1.5, 1.1),
    Promise(_GRANIAN, "body-8mib", WALL, ("nginx-unbuffered",), 1.6),
    Promise(_GRANIAN, "body-8mib", CPU_REQUEST, ("nginx-unbuffered",), 2.2),
    Promise(_GRANIAN, "json-c1", ADDED_P50, ("fastapi-shared",), 1 / 7, None, "SX"),
    Promise(_GRANIAN, "json-c32", REQUESTS, ("fastapi-shared",), 35),
    Promise(_GRANIAN, "sse-paced-32", CPU_CHUNK, ("fastapi-shared",), 1 / 3),
    Promise(_GRANIAN, "memory-5000", MEMORY, (), 100, 60),
)


@dataclass(frozen=True)
class Verdict:
    """What became of a promise.

    Attributes:
        promise: What was promised.
        against: Whom it was divided by.
        found: What was measured.
    """

    promise: Promise
    against: str | None
    found: Estimate

    @property
    def kept(self) -> bool:
        """Whether the figure is within the bound; its interval may reach beyond."""
        value = self.found.value
        return value >= self.promise.must if self.promise.at_least else value <= self.promise.must


def verdicts(outcomes: Mapping[str, Outcome], placement: str) -> Iterator[Verdict]:
    """Yield what became of each promise that can be judged by what was measured."""
    for promise in PROMISES:
        outcome = outcomes.get(promise.scenario)
        if outcome is None or placement not in promise.placements:
            continue
        if not promise.against:
            level = read(outcome.report, promise.proxy, promise.figure.metric)
            found: list[tuple[Estimate | None, str | None]] = [(level, None)]
        else:
            found = [(ratio(outcome.report, promise.proxy, who, promise.figure), who) for who in promise.against]
        known = [Verdict(promise, who, estimate) for estimate, who in found if estimate is not None]
        if known:
            hardest = min if promise.at_least else max
            yield hardest(known, key=lambda verdict: verdict.found.value)
