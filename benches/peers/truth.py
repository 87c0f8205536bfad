#!/usr/bin/env python3
"""Is what fastwrap says true? Its numbers beside those of an engine that stamps each event as it sends it.

Client, engine and fastwrap read one clock, the machine's. The client stamps a request before it sends it, one at a
time; what lies between that and the engine's stamps is compared with the `performance` block of the same answer.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import itertools
import json
import shlex
import socket
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from http.client import HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastwrap.bench.machine import describe
from fastwrap.simulation import FLAVORS
from harness.process import Running, answers, free_port
from harness.proxy import MODEL, Launch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SERVERS = ("native", "granian")
TOKENS = 16
_RECORD = Path(__file__).parents[1] / "record"
_CHAT = "/v1/chat/completions"
_TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}
#: What is promised: milliseconds at the median and at the 99th percentile, and a share.
_MEDIAN_MS, _P99_MS, _SHARE = 0.3, 2.0, 0.01

Json = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A kind of answer.

    Attributes:
        name: What it is called.
        request: What the request says for it.
        flavors: The engines that have it.
        tokens_per_chunk: How the engine is started for it.
    """

    name: str
    request: Json = field(default_factory=dict)
    flavors: tuple[str, ...] = FLAVORS
    tokens_per_chunk: int = 1


#: TGI pings before its first token and transformers sends the role: those cases are in every row of theirs.
CASES = (
    Case("text"),
    Case("4 tokens a chunk", tokens_per_chunk=4),
    Case(
        "reasoning",
        {"reasoning_effort": "low"},
        flavors=tuple(flavor for flavor in FLAVORS if flavor not in ("openai", "tgi")),
    ),
    Case("tool call", {"tools": [_TOOL]}),
    Case("n=2", {"n": 2}, flavors=("openai", "vllm", "sglang", "llamacpp")),
)


@dataclass(frozen=True)
class Truth:
    """What the stamps say of one answer, in milliseconds from the client's sending it."""

    ttft_ms: float
    latency_ms: float
    tpot_ms: float | None


class Client:
    """One kept-alive connection; a request leaves in one piece."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, body: Json) -> tuple[int, bytes]:
        """Return when the request was sent, and the answer's body."""
        content = json.dumps(body).encode()
        head = f"POST {_CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(content)}"
        message = head.encode() + b"\r\n\r\n" + content
        sent_ns = time.monotonic_ns()
        self._socket.sendall(message)
        response = HTTPResponse(self._socket, method="POST")
        response.begin()
        text = response.read()
        if response.status != 200:  # noqa: PLR2004 (HTTP's OK)
            raise click.ClickException(f"status {response.status}: {text[:200]!r}")
        return sent_ns, text

    def chat(self, case: Case, **options: Any) -> tuple[int, bytes]:
        """Ask for an answer of a case."""
        message = {"role": "user", "content": "How late is it?"}
        return self.ask({"model": MODEL, "messages": [message], **case.request, **options})

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def events_of(text: bytes) -> list[Json]:
    """The JSON of each event."""
    data = [line[5:] for line in text.splitlines() if line.startswith(b"data:")]
    return [json.loads(one) for one in data if one.strip() != b"[DONE]"]


def _texts(event: Json) -> list[int]:
    """The choices that it holds text of, of any sort, told without fastwrap."""
    found = []
    for choice in event.get("choices", ()):
        delta = choice.get("delta", {})
        texts = [delta.get(name) for name in ("content", "reasoning", "reasoning_content")]
        for call in delta.get("tool_calls") or ():
            texts += call.get("function", {}).get("name"), call.get("function", {}).get("arguments")
        if any(texts):
            found.append(choice["index"])
    return found


def truth_of(events: Sequence[Json], sent_ns: int, tokens: int) -> Truth:
    """What happened, by the engine's stamps."""
    texts: dict[int, list[int]] = defaultdict(list)
    for event in events:
        for choice in _texts(event):
            texts[choice].append(event["sent_ns"])
    first = min(stamps[0] for stamps in texts.values())
    last = max(event["sent_ns"] for event in events if "sent_ns" in event)
    # Of several choices, all their times by all their tokens; the first token of each has none.
    spread = sum(stamps[-1] - stamps[0] for stamps in texts.values()) / (tokens - len(texts)) / 1e6
    return Truth((first - sent_ns) / 1e6, (last - sent_ns) / 1e6, spread or None)


@dataclass
class Differences:
    """What fastwrap says, less the truth, of all answers of one sort."""

    ttft_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    tpot_share: list[float] = field(default_factory=list)
    untold: set[str] = field(default_factory=set)
    wrong_tokens: int = 0

    def add(self, block: Json, truth: Truth, tokens: int) -> None:
        """Take in one answer."""
        self.ttft_ms.append(block["ttft_ms"] - truth.ttft_ms)
        self.latency_ms.append(block["latency_ms"] - truth.latency_ms)
        self.wrong_tokens += block["completion_tokens"] != tokens
        if block["tpot_ms"] is None:
            self.untold.add(block["unavailable"]["tpot_ms"])
        elif truth.tpot_ms is not None:
            self.tpot_share.append(block["tpot_ms"] / truth.tpot_ms - 1)

    def extend(self, other: Differences) -> None:
        """Take in those of another sort."""
        self.ttft_ms += other.ttft_ms
        self.latency_ms += other.latency_ms
        self.tpot_share += other.tpot_share
        self.untold |= other.untold
        self.wrong_tokens += other.wrong_tokens

    @property
    def keeps(self) -> bool:
        """Whether it is as true as is promised."""
        times = all(
            abs(statistics.median(values)) <= _MEDIAN_MS and percentile(values, 99) <= _P99_MS
            for values in (self.ttft_ms, self.latency_ms)
        )
        pace = not self.tpot_share or abs(statistics.median(self.tpot_share)) <= _SHARE
        return times and pace and not self.wrong_tokens


def percentile(values: Sequence[float], percent: int) -> float:
    """That many of a hundred are no further from zero."""
    sizes = sorted(map(abs, values))
    return sizes[min(len(sizes) - 1, len(sizes) * percent // 100)]


@contextlib.contextmanager
def _running(name: str, *options: str) -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = (sys.executable, "-m", "fastwrap", *options, "--port", str(port))
        process = Running(name, Launch(command), tuple(range(1024)), Path(folder), port)
        try:
            process.wait_until(answers)
            yield port
        finally:
            process.stop()


@dataclass(frozen=True)
class Pace:
    """How the engine answers."""

    ttft_ms: float
    itl_ms: float


def measure(flavor: str, pace: Pace, requests: int) -> dict[tuple[str, str], Differences]:
    """Ask one engine's answers of each case through both servers, in turns.

    Returns:
        By server and case.
    """
    found: dict[tuple[str, str], Differences] = defaultdict(Differences)
    cases = [case for case in CASES if flavor in case.flavors]
    tokens: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        clients: dict[tuple[str, int], Client] = {}
        for chunk in sorted({case.tokens_per_chunk for case in CASES}):
            engine = stack.enter_context(
                _running(
                    "engine",
                    "engine",
                    *("--flavor", flavor, "--model", MODEL, "--tokens", str(TOKENS), "--tokens-per-chunk", str(chunk)),
                    *("--ttft-ms", f"{pace.ttft_ms:g}", "--itl-ms", f"{pace.itl_ms:g}"),
                )
            )
            ways = {"engine": engine}
            for server in SERVERS:
                options = ("--upstream", f"http://127.0.0.1:{engine}", "--backend", flavor, "--server", server)
                ways[server] = stack.enter_context(_running(server, "serve", *options))
            for name, port in ways.items():
                clients[name, chunk] = client = Client(port)
                stack.callback(client.close)
        for case in cases:
            _, answer = clients["engine", case.tokens_per_chunk].chat(case)
            tokens[case.name] = json.loads(answer)["usage"]["completion_tokens"]
        for _, case, server in itertools.product(range(requests), cases, SERVERS):
            sent_ns, text = clients[server, case.tokens_per_chunk].chat(case, stream=True, fastwrap_sim={"stamp": True})
            events = events_of(text)
            (block,) = [event["performance"] for event in events if "performance" in event]
            truth = truth_of(events, sent_ns, tokens[case.name])
            found[server, case.name].add(block, truth, tokens[case.name])
    return found


def table(found: Mapping[Sequence[str], Differences], heads: Sequence[str]) -> str:
    """The differences in Markdown."""
    columns = [f"`{name}`: {what}" for name in ("ttft_ms", "latency_ms", "tpot_ms") for what in ("median", "p99")]
    columns = [*heads, *columns, "wrong counts"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for names, one in found.items():
        cells = [*names]
        for values in (one.ttft_ms, one.latency_ms):
            cells += f"{statistics.median(values):+.3f}", f"{percentile(values, 99):.3f}"
        if one.tpot_share:
            cells += f"{statistics.median(one.tpot_share):+.2%}", f"{percentile(one.tpot_share, 99):.2%}"
        else:
            cells += [f"null: {', '.join(sorted(one.untold))}", ""]
        cells.append(str(one.wrong_tokens))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gathered(found: Mapping[tuple[str, str, str], Differences], by: Sequence[int]) -> dict[Sequence[str], Differences]:
    gathered: dict[Sequence[str], Differences] = defaultdict(Differences)
    for names, one in found.items():
        gathered[tuple(names[at] for at in by)].extend(one)
    return gathered


def _page(found: Mapping[tuple[str, str, str], Differences], requests: int, pace: Pace) -> str:
    known = describe()
    machine, versions = known["machine"], known["versions"]
    command = shlex.join(["python", "benches/peers/truth.py", *sys.argv[1:]])
    date = dt.datetime.now(dt.timezone.utc)
    return f"""# {date.isoformat(timespec="seconds")}: fastwrap's numbers beside the engine's stamps

    {command}

fastwrap {versions["fastwrap"]}, commit {versions["commit"]}; Python {versions["python"]}; {machine["cpu"]},
{machine["cpus"]} CPU(s), {machine["system"]}.

What fastwrap says, less what the stamps say: milliseconds, of `tpot_ms` the share; p99 of the size of the difference.
{requests} answers of each kind, one at a time: {TOKENS} tokens a choice, the first after {pace.ttft_ms:g} ms, then one
every {pace.itl_ms:g} ms.

{table(_gathered(found, (0, 1)), ("engine", "server"))}

{table(_gathered(found, (2, 1)), ("answer", "server"))}
"""


@click.command(epilog="Exit code 1: a number is further from the truth than is promised.")
@click.option("--requests", default=200, show_default=True, type=click.IntRange(1), help="Answers of each kind.")
@click.option("--flavor", "flavors", multiple=True, type=click.Choice(FLAVORS), help="Engines; all by default.")
@click.option("--ttft-ms", default=10.0, show_default=True, help="The engine's time to its first token.")
@click.option("--itl-ms", default=3.0, show_default=True, help="The engine's time between two tokens.")
@click.option("--record", is_flag=True, help="Keep the tables under benches/record/.")
@click.option("--check/--no-check", default=True, help="Whether times further off than is promised are a failure.")
def main(  # noqa: PLR0913 (one argument an option)
    *, requests: int, flavors: tuple[str, ...], ttft_ms: float, itl_ms: float, record: bool, check: bool
) -> None:
    """Compare fastwrap's numbers with the stamps of a simulated engine, for every engine's format, on both servers."""
    pace = Pace(ttft_ms, itl_ms)
    found: dict[tuple[str, str, str], Differences] = {}
    for flavor in flavors or FLAVORS:
        click.echo(f"{flavor} ...", err=True)
        for (server, case), one in measure(flavor, pace, requests).items():
            found[flavor, server, case] = one
    page = _page(found, requests, pace)
    click.echo(page)
    if record:
        commit = describe()["versions"]["commit"] or "installed"
        date = dt.datetime.now(dt.timezone.utc)
        (_RECORD / f"{date:%Y-%m-%d}-{commit}-truth.md").write_text(page, encoding="utf-8")
    off = [names for names, one in found.items() if (not one.keeps if check else one.wrong_tokens)]
    if off:
        raise click.ClickException("further from the truth than is promised: " + "; ".join(map(", ".join, off)))


if __name__ == "__main__":
    main()
