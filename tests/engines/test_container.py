"""`fastwrap run` starts a real engine, waits until it has loaded, and leaves none of its processes behind.

Before the other tests, whose engines would take the memory of these.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from engines import requests, wire
from engines.conftest import FOLDER, IN_CI, chosen
from engines.processes import NOT_INSTALLED, Kind, free_port
from proxy.client import ask
from proxy.processes import DEADLINE_S, Run, until
from supervised.conftest import SERVERS, alive

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

STOP_WITHIN_S = 15.0
#: That an engine's log tells the name of its model.
MODEL = "engine | model: "
READY = "fastwrap: the engine is ready after"
#: vLLM and SGLang take longer.
FAST_S = 90.0
READY_WITHIN_S = 240.0  # beside whatever else the machine has to do


def started() -> list[Kind]:
    """In CI those that load fast: each is loaded once for each server."""
    return [kind for kind in chosen() if not IN_CI or kind.ready_within_s <= FAST_S]


@pytest.fixture(params=started(), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    found: Kind = request.param
    return found


@pytest.fixture(params=SERVERS)
def running(kind: Kind, request: pytest.FixtureRequest) -> Iterator[Run]:
    """It has been started; the engine loads."""
    port = free_port()
    engine = (str(FOLDER / "serve.sh"), kind.name, str(port), *kind.options)
    options = ("--server", request.param, "--upstream", f"http://127.0.0.1:{port}", "--backend", kind.name)
    if not (FOLDER / "serve.sh").exists():
        pytest.skip(f"no engines in {FOLDER}")
    try:
        found = Run(engine, *options)
    except AssertionError as error:  # it has ended before the proxy's first answer
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    yield found
    found.stop()


def test_it_is_started_and_ended(kind: Kind, running: Run) -> None:
    until(lambda: READY in running.log or running.process.poll() is not None, "the engine has loaded", READY_WITHIN_S)
    if running.process.poll() == NOT_INSTALLED:
        pytest.skip(running.log)
    assert ask(running.url, "GET", "/-/ready").status == 200, running.log
    model = kind.model or next(line.removeprefix(MODEL).strip() for line in running.lines if line.startswith(MODEL))
    body = {"model": model, "messages": requests.USER, **requests.LIMITS, "stream": True}
    block = wire.answer_events(wire.ask(running.url, requests.CHAT, body))[1]
    assert block["backend"] == kind.name
    assert block["completion_tokens"] > 1
    pids = running.pids
    running.process.send_signal(signal.SIGTERM)
    code = running.process.wait(STOP_WITHIN_S + DEADLINE_S)
    assert code in (0, 128 + signal.SIGTERM), running.log
    until(lambda: not any(map(alive, pids)), "all processes have ended")
