"""The simulated engine, and what it says, for a proxy that has none."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from harness.process import QUESTION, ask
from harness.proxy import MODEL, Launch

if TYPE_CHECKING:
    from pathlib import Path

    from harness.scenario import Scenario


def launch(scenario: Scenario, port: int) -> Launch:
    """Return how a scenario's engine is started."""
    pace = ("--ttft-ms", f"{scenario.ttft_ms:g}", "--itl-ms", f"{scenario.itl_ms:g}", "--model", MODEL)
    command = (sys.executable, "-m", "fastwrap", "engine", "--port", str(port), *pace, *scenario.engine)
    return Launch(command)


def record(scenario: Scenario, port: int, file: Path) -> None:
    """Ask the engine once, and write its answer piece by piece, with the time at which each is due."""
    body = json.loads(QUESTION) | ({"stream": True} if scenario.streams else {})
    if "--transit" in scenario.load:  # as long as with a stamp, but a stamp of the past is none
        body["fastwrap_sim"] = {"stamp": True}
    _, answer = ask(port, json.dumps(body))
    text = answer.decode().replace('"sent_ns"', '"sent_at"')
    pieces = _paced(text, scenario) if scenario.streams and scenario.itl_ms else [{"due_s": 0.0, "text": text}]
    kind = "text/event-stream" if scenario.streams else "application/json"
    file.write_text(json.dumps({"content_type": kind, "pieces": pieces}), encoding="utf-8")


def _paced(text: str, scenario: Scenario) -> list[dict[str, object]]:
    """The role comes with the first token, ``[DONE]`` with the last one."""
    events = [event + "\n\n" for event in text.split("\n\n") if event]
    tokens = len(events) - 2
    steps = [0, *range(tokens), tokens - 1]
    pairs = zip(steps, events, strict=True)
    return [{"due_s": (scenario.ttft_ms + step * scenario.itl_ms) / 1e3, "text": event} for step, event in pairs]
