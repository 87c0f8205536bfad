"""One scenario: engine and proxies started, ``fastwrap bench`` run over all of them, everything ended."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness import engine, environment
from harness.process import KEY, Running, answers, free_port, listens
from harness.proxy import Launch, Seat, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.placement import Placement
    from harness.proxy import Proxy
    from harness.scenario import Scenario

#: The engine itself, in the tables of ``fastwrap bench``.
DIRECT = "direct"
_FAILED = re.compile(r"^Error: (?P<name>[^\s:]+): (?P<problem>.*)", re.DOTALL | re.MULTILINE)
_OTHER_EVENTS = re.compile(r"\d+ events with text, not \d+")
_SHOWN_CHARACTERS = 300


class RunError(Exception):
    """Nothing could be measured; says why."""


@dataclass(frozen=True)
class Orders:
    """What was asked for, of every scenario.

    Attributes:
        placement: Who runs where.
        rounds: Rounds that count; None for the scenario's own.
        quick: Whether only answers matter.
        under: A command that each run of ``fastwrap bench`` is given to.
    """

    placement: Placement
    rounds: int | None
    quick: bool
    under: tuple[str, ...]


@dataclass
class Outcome:
    """What a scenario has shown.

    Attributes:
        scenario: As it was driven.
        report: That of ``fastwrap bench``, without distributions and metrics that a target does not have.
        absent: Why a proxy was not measured, by name.
        notes: What else must be known of a proxy, by name.
    """

    scenario: Scenario
    report: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)


def measure(scenario: Scenario, proxies: Sequence[Proxy], orders: Orders, say: Callable[[str], None]) -> Outcome:
    """Drive all proxies in one scenario.

    Args:
        scenario: What is driven.
        proxies: What is installed.
        orders: How.
        say: Told what is going on.

    Raises:
        RunError: If the engine does not serve, or nothing can be measured.
    """
    outcome = Outcome(scenario)
    with ExitStack() as stack:
        stand = _Stand(outcome, orders, stack)
        say(f"{scenario.name}: starting the engine and {len(proxies)} proxies")
        stand.start(proxies)
        groups = [stand.running] if scenario.together else [{name: one} for name, one in stand.running.items()]
        for group in groups:
            say(f"{scenario.name}: {DIRECT}, {', '.join(group)}")
            _add(outcome, stand.bench(group))
    if not outcome.report:
        raise RunError(f"{scenario.name}: no proxy could be measured: {outcome.absent}")
    _note(outcome)
    return outcome


class _Stand:
    """An engine and the proxies in front of it, while they run."""

    def __init__(self, outcome: Outcome, orders: Orders, stack: ExitStack) -> None:
        self._outcome, self._orders, self._stack = outcome, orders, stack
        self._scenario = outcome.scenario
        self._check = "events"
        self.running: dict[str, Running] = {}
        self._directory = environment.root() / "runs" / f"{self._scenario.name}-{orders.placement.name}"
        shutil.rmtree(self._directory, ignore_errors=True)

    def start(self, proxies: Sequence[Proxy]) -> None:
        """Start everything at once, then wait until it serves."""
        placement = self._orders.placement
        port, known = free_port(), self._directory / "answers.json"
        directory = self._room(DIRECT)
        self._engine = self._run(DIRECT, engine.launch(self._scenario, port), placement.load_cpu, directory, port)
        try:
            self._engine.wait_until(answers)
        except UnavailableError as error:
            raise RunError(f"fastwrap engine {error}") from error
        engine.record(self._scenario, port, known)
        started = {proxy.name: self._seat(proxy, known) for proxy in proxies}
        for name, running in started.items():
            if running is None:
                continue
            try:
                running.wait_until(listens)
                running.wait_until(answers)
                self.running[name] = running
            except UnavailableError as error:
                self._outcome.absent[name] = str(error)

    def _seat(self, proxy: Proxy, known: Path) -> Running | None:
        directory, port = self._room(proxy.name), free_port()
        seat = Seat(port, self._engine.port, directory, known, free_port())
        try:
            return self._run(proxy.name, proxy.launch(seat), self._orders.placement.proxy_cpu, directory, port)
        except UnavailableError as error:
            self._outcome.absent[proxy.name] = str(error)
            return None

    def _room(self, name: str) -> Path:
        directory = self._directory / name
        directory.mkdir(parents=True)
        return directory

    def _run(self, name: str, launch: Launch, cpu: int, directory: Path, port: int) -> Running:
        running = Running(name, launch, (cpu,), directory, port)
        self._stack.callback(running.stop)
        return running

    def bench(self, group: Mapping[str, Running]) -> dict[str, Any] | None:
        """Run ``fastwrap bench``, and again without whatever it refuses; None if nothing is left."""
        left = dict(group)
        while left:
            file = self._directory / "report.json"
            done = subprocess.run(self._command(left, file), capture_output=True, text=True, check=False)  # noqa: S603
            if done.returncode == 0:
                report: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                return report
            found = _FAILED.search(done.stderr)
            if found is None or found["name"] not in left:
                raise RunError(f"{self._scenario.name}: fastwrap bench failed: {done.stderr.strip()}")
            if self._check == "events" and _OTHER_EVENTS.search(found["problem"]):
                # The text is the same, but somebody joins or splits events: so compare texts, and say who.
                self._check = "content"
                continue
            self._outcome.absent[found["name"]] = " ".join(found["problem"].split())[:_SHOWN_CHARACTERS]
            del left[found["name"]]
        return None

    def _command(self, group: Mapping[str, Running], file: Path) -> list[str]:
        scenario, orders = self._scenario, self._orders
        targets = [f"{DIRECT}={self._engine.url}", *(f"{name}={running.url}" for name, running in group.items())]
        pids = [word for name, running in group.items() for word in ("--pid", f"{name}={running.pid}")]
        warmup = 1 if scenario.together and not orders.quick else 0
        options = {
            "--concurrency": scenario.concurrency,
            "--duration": scenario.duration_s,
            "--ramp": scenario.ramp_s,
            "--rounds": orders.rounds or scenario.rounds if scenario.together else 1,
            "--warmup": warmup,
            "--cpu": orders.placement.load_cpu,
            "--check": self._check,
            "--header": f"Authorization: Bearer {KEY}",
            "--json": file,
        }
        if scenario.reference in group:
            options["--reference"] = scenario.reference
        words = [str(word) for pair in options.items() for word in pair]
        return [*orders.under, sys.executable, "-m", "fastwrap.bench", *targets, *scenario.load, *pids, *words]


def _add(outcome: Outcome, report: dict[str, Any] | None) -> None:
    """Put a report's targets beside those of the runs before, without what nobody looks up here."""
    if report is None:
        return
    for target in report["targets"]:
        del target["distributions"]
        target["metrics"] = {name: found for name, found in target["metrics"].items() if found is not None}
    if outcome.report:
        outcome.report["targets"] += report["targets"][1:]
    else:
        outcome.report = report


def _note(outcome: Outcome) -> None:
    """Note who cuts streams in another way, whose answers were wrong, and who loses stamps."""
    targets = outcome.report["targets"]
    wanted = _chunks_per_answer(targets[0])
    for target in targets:
        notes = []
        errors = ", ".join(f"{count:,} {kind}" for kind, count in target["errors"].items())
        if errors:
            notes.append(f"{target['metrics']['error_percent']['value']:.3g} % of its answers do not count: {errors}")
        found = _chunks_per_answer(target)
        if found != wanted:
            notes.append(f"{found:g} events with text an answer, not {wanted:g}")
        if outcome.report["settings"]["transit"] and "transit_p50_us" not in target["metrics"]:
            notes.append("no stamps in its events: no transit")
        if notes:
            outcome.notes[target["name"]] = "; ".join(notes)


def _chunks_per_answer(target: dict[str, Any]) -> float:
    answers_read = sum(one["requests"] for one in target["rounds"])
    return round(sum(one["chunks"] for one in target["rounds"]) / answers_read, 1) if answers_read else 0.0
