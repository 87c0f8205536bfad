"""What is measured: one load, one pace of the engine, and the figures that matter in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """A number of ``fastwrap bench``'s report, and how it is compared.

    Attributes:
        metric: Its name there.
        heading: What a column of it is called.
        ratio: The name of its ratio to the reference; None where the report has none.
    """

    metric: str
    heading: str
    ratio: str | None


ADDED_P50 = Figure("added_p50_us", "added p50, µs", "added_p50_ratio")
REQUESTS = Figure("requests_per_s", "requests/s", "requests_per_s_ratio")
ADDED_TTFT = Figure("added_ttft_p50_us", "added time to first content p50, µs", "added_ttft_p50_ratio")
TTFT = Figure("ttft_p50_us", "time to first content p50, µs", "ttft_p50_ratio")
TRANSIT_P50 = Figure("transit_p50_us", "chunk transit p50, µs", "transit_p50_ratio")
TRANSIT_P99 = Figure("transit_p99_us", "chunk transit p99, µs", "transit_p99_ratio")
CPU_CHUNK = Figure("cpu_us_per_chunk", "CPU µs/chunk", "cpu_us_per_chunk_ratio")
CPU_REQUEST = Figure("cpu_us_per_request", "CPU µs/request", "cpu_us_per_request_ratio")
CHUNKS = Figure("chunks_per_s", "chunks/s", "chunks_per_s_ratio")
WALL = Figure("p50_us", "wall p50, µs", "p50_ratio")
MEMORY = Figure("rss_per_stream_kib", "KiB/open stream", None)


@dataclass(frozen=True)
class Scenario:
    """One load.

    Attributes:
        name: What ``--scenario`` calls it.
        about: What it is, in a line.
        figures: What matters in it; the first one most.
        load: Options of ``fastwrap bench``.
        concurrency: Clients at once.
        duration_s: How long a proxy is driven in a round.
        rounds: Rounds that count.
        ramp_s: Over how long the clients begin.
        engine: Options of ``fastwrap engine``.
        ttft_ms: The engine's time to its first token.
        itl_ms: Its pace after that.
        reference: What is divided by.
        together: Whether all proxies are driven in turns, in one run; or each in a run of its own, beside the
            engine, where all of them would have too many files open.
        leaves_out: Who would take minutes for this load, and everybody else's time.
    """

    name: str
    about: str
    figures: tuple[Figure, ...]
    load: tuple[str, ...] = ()
    concurrency: int = 1
    duration_s: float = 0.4
    rounds: int = 7
    ramp_s: float = 0.0
    engine: tuple[str, ...] = ()
    ttft_ms: float = 0.0
    itl_ms: float = 0.0
    reference: str = "nginx"
    together: bool = True
    leaves_out: tuple[str, ...] = ()

    @property
    def streams(self) -> bool:
        """Whether answers are event streams."""
        return "sse" in self.load

    def quick(self) -> Scenario:
        """Return it as small as it can be and still show that answers are right."""
        most = {"concurrency": 128, "duration_s": 0.1, "rounds": 1, "ramp_s": 0.1, "ttft_ms": 200.0, "itl_ms": 10.0}
        return dataclasses.replace(self, **{name: min(getattr(self, name), limit) for name, limit in most.items()})


_SLOWEST = ("litellm", "fastapi-per-request")
_SSE = ("--mode", "sse", "--request-bytes", "1024")

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "json-c1",
            "1 KB JSON request and answer, one at a time",
            (ADDED_P50, CPU_REQUEST),
            ("--request-bytes", "1024"),
        ),
        Scenario(
            "json-c32",
            "the same, 32 at once",
            (REQUESTS, CPU_REQUEST),
            ("--request-bytes", "1024"),
            concurrency=32,
        ),
        Scenario(
            "sse-first",
            "a stream of 16 tokens in one write, one at a time",
            (ADDED_TTFT, ADDED_P50),
            _SSE,
        ),
        Scenario(
            "sse-paced-32",
            "32 streams, a token every 10 ms",
            (TRANSIT_P50, TRANSIT_P99, CPU_CHUNK),
            (*_SSE, "--transit"),
            concurrency=32,
            duration_s=1.0,
            rounds=5,
            ramp_s=0.2,
            engine=("--tokens", "32"),
            itl_ms=10.0,
        ),
        Scenario(
            "sse-paced-1000",
            "1,000 streams, a token every 50 ms",
            (CPU_CHUNK, TRANSIT_P50, TRANSIT_P99),
            (*_SSE, "--transit"),
            concurrency=1000,
            duration_s=1.0,
            rounds=5,
            ramp_s=1.0,
            engine=("--tokens", "20"),
            itl_ms=50.0,
            leaves_out=_SLOWEST,
        ),
        Scenario(
            "burst",
            "streams of 16 tokens in one write, 32 at once",
            (CHUNKS, TTFT),
            _SSE,
            concurrency=32,
        ),
        Scenario(
            "burst-long",
            "streams of 256 tokens as fast as they go, 32 at once",
            (CHUNKS, TTFT),
            _SSE,
            concurrency=32,
            engine=("--tokens", "256"),
            leaves_out=_SLOWEST,
        ),
        Scenario(
            "body-8mib",
            "requests of 8 MiB, one at a time",
            (WALL, CPU_REQUEST),
            ("--request-bytes", "8MiB"),
            duration_s=1.0,
            rounds=5,
            reference="nginx-unbuffered",
        ),
        Scenario(
            "memory-5000",
            "5,000 open streams, a token every 300 ms",
            (MEMORY,),
            _SSE,
            concurrency=5000,
            duration_s=0.5,
            rounds=1,
            ramp_s=1.5,
            engine=("--tokens", "6"),
            ttft_ms=2000.0,
            itl_ms=300.0,
            together=False,
            leaves_out=_SLOWEST,
        ),
    )
}
