"""An engine's process is killed again and again while it answers: no client takes a part of an answer for the whole.

`pytest tests/chaos/test_kills.py --kills 1000` for a thousand kills.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chaos.conftest import Tell
from proxy.blocks import without_blocks
from proxy.client import Answer, BrokenOffError, events, post_open
from proxy.conftest import STACKS
from proxy.processes import DEADLINE_S, Proxy, until

_CLIENTS = 16
#: How long an engine lives, in seconds, and its milliseconds between two tokens: of those without a pause, what it has
#: written waits in buffers, so that a kill cuts events in two.
_LIFE_S = 0.08
_PACES_MS = (2.0, 0.0)
#: Tokens of an answer that ends in time, and of one that does not.
_SHORT, _LONG = 40, 30_000


class Mortal:
    """The engine, one life after the other at the same port."""

    def __init__(self) -> None:
        program = str(Path(__file__).with_name("mortal.py"))
        self._mother = subprocess.Popen([sys.executable, program], stdin=-1, stdout=-1, text=True)
        self._pid, self._port = 0, 0
        self.alive, self.dead = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def live(self, pace_ms: float) -> None:
        """Begin a life; returns when it listens."""
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{self._port} {pace_ms}\n")
        self._mother.stdin.flush()
        self._pid, self._port = map(int, self._mother.stdout.readline().split())
        self.dead.clear()
        self.alive.set()

    def kill(self) -> None:
        self.alive.clear()
        os.kill(self._pid, signal.SIGKILL)
        self.dead.set()

    def end(self) -> None:
        if self.alive.is_set():
            self.kill()
        self._mother.communicate(timeout=DEADLINE_S)


class Clients:
    """Those who ask until they are told that it is over.

    Attributes:
        ends: How many answers ended in which way.
        amiss: Answers that ended in none of the ways that are allowed.
    """

    def __init__(self, proxy: Proxy, engine: Mortal, seed: int) -> None:
        self.proxy, self.engine, self.seed = proxy, engine, seed
        self.over = threading.Event()
        self.ends = Counter[str]()
        self.amiss: list[str] = []
        self.texts = {stream: text_of(self.ask(_LONG // 10, stream=stream)) for stream in (False, True)}

    def ask(self, tokens: int, *, stream: bool, late: bool = False) -> Answer:
        """Make a request; one who reads late does so when the engine is dead."""
        call = post_open(self.proxy.url, {"model": "m", "messages": [], "stream": stream, "max_tokens": tokens})
        try:
            if late:
                assert self.engine.dead.wait(DEADLINE_S)
            return call.answer()
        except (BrokenOffError, ConnectionError):  # Granian has not written what it was given when it aborts
            return Answer(0, whole=False)

    def run(self, number: int) -> None:
        dice = random.Random(f"{self.seed} {number}")  # noqa: S311 (not a secret)
        while not self.over.is_set():
            if not self.engine.alive.wait(0.1):
                continue
            stream, late = dice.random() < 0.75, dice.random() < 0.1
            answer = self.ask(_LONG if stream and late else dice.randint(1, _SHORT), stream=stream, late=late)
            end = self.end_of(answer, stream=stream)
            self.ends[f"{'stream' if stream else 'JSON'} {end}"] += 1
            if end == "amiss":
                start, last = answer.body[:300], answer.body[-300:]
                self.amiss.append(f"{answer.status}, whole: {answer.whole}: {start!r} … {last!r}")

    def end_of(self, answer: Answer, *, stream: bool) -> str:
        """Complete, refused (502), told (an event), aborted; or amiss."""
        if answer.status == 502:
            return "refused" if answer.whole and answer.error["type"] == "upstream_error" else "amiss"
        if not answer.whole:
            return "aborted" if stream and self.is_start(answer.body) else "amiss"
        if answer.status != 200 or not self.is_start(answer.body, stream=stream):
            return "amiss"
        blocks = without_blocks(answer.body)[1]
        if not stream:
            return "complete" if len(blocks) == 1 else "amiss"
        *_, last = answer.events
        if last == "[DONE]":
            return "complete" if len(blocks) == 1 and b'"finish_reason":"length"' in answer.body else "amiss"
        told = isinstance(last, dict) and last.get("error", {}).get("code") == "engine_closed_connection"
        return "told" if told and answer.body.count(b'"error"') == 1 else "amiss"

    def is_start(self, body: bytes, *, stream: bool = True) -> bool:
        """Whether it is how the engine's text begins; what a broken stream ends with may be a part of an event."""
        whole = body if not stream else body[: body.rindex(b"\n\n") + 2] if b"\n\n" in body else b""
        got, known = text_of(Answer(200, body=whole)), self.texts[stream]
        return known.startswith(got) or got.startswith(known)


def text_of(answer: Answer) -> str:
    """What the engine said in it."""
    if answer.body.startswith(b"{"):
        return str(answer.json["choices"][0]["message"]["content"])
    chunks = [one for one in events(answer.body) if isinstance(one, dict)]
    deltas = [choice["delta"] for one in chunks for choice in one.get("choices", ())]
    return "".join(delta.get("content") or "" for delta in deltas)


def check(clients: Clients, counted: dict[str, int]) -> None:
    ends = Counter[str]()
    for name, count in clients.ends.items():
        ends[name.split()[1]] += count
    assert not clients.amiss, f"{len(clients.amiss)}:\n" + "\n\n".join(clients.amiss[:10])
    assert sum(counted.values()) == sum(ends.values()) + len(clients.texts)
    assert counted["cancelled"] == counted["incomplete"] == 0
    # One that was whole may have been aborted behind its last event.
    complete, failed = ends["complete"] + len(clients.texts), ends["told"] + ends["refused"]
    assert complete <= counted["complete"] <= complete + ends["aborted"]
    assert failed <= counted["error"] <= failed + ends["aborted"]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("stack", ["granian-native", "native"])
def test_an_engine_that_is_killed_never_looks_like_an_end(
    stack: str, request: pytest.FixtureRequest, tell: Tell
) -> None:
    kills: int = request.config.getoption("--kills", 20)
    seed: int = request.config.getoption("--chaos-seed", 1)
    dice, moment = random.Random(seed), threading.Event()  # noqa: S311 (not a secret)
    engine = Mortal()
    engine.live(0.0)
    proxy = Proxy(engine.url, *STACKS[stack], "--backend", "vllm")
    try:
        clients = Clients(proxy, engine, seed)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            asking = [pool.submit(clients.run, number) for number in range(_CLIENTS)]
            try:
                for number in range(kills):
                    moment.wait(dice.uniform(0, _LIFE_S))
                    engine.kill()
                    engine.live(_PACES_MS[number % len(_PACES_MS)])
                engine.kill()
            finally:
                clients.over.set()
                engine.dead.set()
            for one in asking:
                one.result()
        until(lambda: proxy.in_flight == 0, "nothing in flight")
        ends = ", ".join(f"{count:,} {end}" for end, count in sorted(clients.ends.items()))
        tell(f"{kills + 1:,} kills of the engine's process, {clients.ends.total():,} answers: {ends}")
        check(clients, proxy.outcomes())
        assert "Traceback" not in proxy.log, proxy.log
        assert "panicked" not in proxy.log, proxy.log
    finally:
        proxy.stop()
        engine.end()
