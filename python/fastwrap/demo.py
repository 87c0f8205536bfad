"""``fastwrap demo``: a simulated engine, fastwrap in front of it, one chat, and what that cost."""

from __future__ import annotations

import atexit
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastwrap.errors import FastwrapError
from fastwrap.simulation import flag

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_PROMPT = "What does this answer cost?"
_PATH = "/v1/chat/completions"
_START_SECONDS = 20.0
_STOP_SECONDS = 5.0
#: Of silence in the stream, beyond the delays that were asked for.
_SILENCE_SECONDS = 30.0
_OK = 200
_TAIL_LINES = 12
#: What the terminal, the shell or a supervisor ends a command with.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_MEANINGS = {
    "latency_ms": "request in -> last byte out",
    "ttft_ms": "-> first text",
    "tpot_ms": "per token after the first",
    "memory_delta_mb": "GPU memory, end - start",
    "peak_memory_mb": "GPU memory, highest sample",
    "memory_start_mb": "GPU memory when it began",
    "memory_end_mb": "GPU memory when it ended",
    "first_byte_ms": "-> first byte of the answer",
    "first_chunk_ms": "-> first event",
    "first_answer_ms": "-> first text, reasoning apart",
    "inter_chunk_ms": "gaps between chunks",
    "chunks": "events with text",
    "choices": "each, if there are several",
    "prompt_tokens": "tokens read",
    "completion_tokens": "tokens written",
    "reasoning_tokens": "of these, reasoning",
    "cached_tokens": "of those read, from a cache",
    "accepted_prediction_tokens": "predicted, and right",
    "token_source": "who counted the tokens",
    "output_tokens_per_second": "over the whole request",
    "proxy_overhead_ms": "spent in fastwrap itself",
    "engine": "what the engine says of itself",
    "host_memory": "RAM of the engine's processes",
    "energy_j": "energy of the GPUs meanwhile",
    "attributed_energy_j": "this request's share of it",
    "energy_per_output_token_j": "that share per token written",
    "gpu": "memory, energy, load by device",
    "concurrent_requests": "most in flight meanwhile",
    "measured_as": "what the engine was asked for",
    "backend": "the kind of engine",
    "request_id": "x-request-id, or made here",
    "outcome": "how it ended",
    "error_type": "what its error is called",
}
_REASONS = {
    "library_not_found": "no NVIDIA driver here",
    "not_reported": "the engine does not say",
    "single_choice": "there is one",
    "no_error": "there was none",
    "disabled": "switched off",
    "not_sampled": "not looked at yet",
}
_UNITS = {"_ms": " ms", "_mb": " MiB", "_j": " J", "_per_second": " /s"}


class DemoError(FastwrapError):
    """The demonstration did not work."""


def run(*, keep: bool, **engine: Any) -> None:
    """Show it.

    Args:
        keep: Leave both processes running until the user ends them.
        engine: The options of ``fastwrap engine``.

    Raises:
        DemoError: If something failed; whatever was started has ended.
    """
    console = Console(highlight=False)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # the simulated text has letters of many scripts
    with _Signals() as signals, _Children(signals) as children:
        _intro(console, engine)
        url = _start(children, engine)
        try:
            block = _chat(console, url, engine)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise DemoError(f"the chat failed: {type(error).__name__}: {error}\n{children.tail}".rstrip()) from error
        _show(console, block)
        _leave_curl(console, url if keep else None, engine)
        if keep:
            _wait(console, children)


class _Signals:
    """Turns signals into an exit, but never between the start of a process and the note that it must be ended."""

    def __init__(self) -> None:
        self._holding = 0
        self._pending = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:  # noqa: PYI034 (typing.Self is Python 3.11's)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it, no signal interrupts."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
        if self._pending and not self._holding:
            self._exit(self._pending)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._holding:
            self._pending = number
        else:
            self._exit(number)

    def _exit(self, number: int) -> NoReturn:
        self._holding += 1  # once: the second Ctrl-C of an impatient user must not interrupt the tidying up
        raise SystemExit(128 + number)


class _Children:
    """The processes; none is left when the block ends, however it ends."""

    def __init__(self, signals: _Signals) -> None:
        self._signals = signals
        self._running: list[_Child] = []
        self.ended = threading.Event()

    def __enter__(self) -> _Children:  # noqa: PYI034
        atexit.register(self._end)  # should a signal hit the moment before the block's end is held
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        atexit.unregister(self._end)

    def _end(self) -> None:
        with self._signals.held():
            deadline = time.monotonic() + _STOP_SECONDS
            for child in self._running:
                child.process.terminate()
            for child in self._running:
                child.end(max(deadline - time.monotonic(), 0.1))
            self._running.clear()

    def start(self, *arguments: str) -> _Child:
        """Start a command of fastwrap's that says on which address it listens."""
        with self._signals.held():
            child = _Child(arguments, self.ended)
            self._running.append(child)
        return child

    @property
    def tail(self) -> str:
        """The last lines that they wrote."""
        return "".join(line for child in self._running for line in child.lines)


class _Child:
    """One process and what it writes to standard error."""

    def __init__(self, arguments: tuple[str, ...], ended: threading.Event) -> None:
        self.name = f"fastwrap {arguments[0]}"
        self.url = ""
        self.lines: deque[str] = deque(maxlen=_TAIL_LINES)
        self._ended = ended
        self._spoke = threading.Event()
        # Own settings of the user's must not change what is shown; a session of its own, so that Ctrl-C comes to the
        # demonstration alone, which then ends its children in order.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("FASTWRAP_")}
        self.process = subprocess.Popen(  # noqa: S603 (this very program)
            [sys.executable, "-m", "fastwrap", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            encoding="utf-8",
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def address(self) -> str:
        """Return where it listens, once it does."""
        self._spoke.wait(_START_SECONDS)
        if not self.url:
            raise DemoError(f"{self.name} did not start:\n{''.join(self.lines) or '(it said nothing)'}".rstrip())
        return self.url

    def end(self, seconds: float) -> None:
        """Wait for it, then use force on it and on its workers."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _kill_group(self.process.pid)
            self.process.wait()

    def _read(self) -> None:
        if self.process.stderr is None:
            return
        with self.process.stderr as lines:
            for line in lines:
                self.lines.append(line)
                if not self.url and " on http://" in line:
                    self.url = "http://" + line.split(" on http://", 1)[1].split()[0]
                    self._spoke.set()
        self._spoke.set()
        self._ended.set()


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # nobody is left; macOS says the latter of zombies
        return


def _intro(console: Console, engine: dict[str, Any]) -> None:
    delays = f"first token after {engine['ttft_ms']:g} ms, then one every {engine['itl_ms']:g} ms"
    console.print(f"A simulated [bold]{engine['flavor']}[/] engine ({delays}),")
    console.print("and fastwrap in front of it. Its text is nonsense; the numbers are real.\n")


def _start(children: _Children, engine: dict[str, Any]) -> str:
    """Start both; return the proxy's address once it answers."""
    options = [word for name, value in engine.items() for word in (flag(name), str(value))]
    simulated = children.start("engine", "--port", "0", *options)
    proxy = children.start(
        *("serve", "--port", "0", "--upstream", simulated.address(), "--backend", engine["flavor"]),
        *("--grace", "1", "--log-level", "warning"),
    )
    url = proxy.address()
    deadline = time.monotonic() + _START_SECONDS
    while not _serves(url):
        if children.ended.wait(0.01) or time.monotonic() > deadline:
            raise DemoError(f"the proxy does not answer:\n{children.tail}".rstrip())
    return url


def _serves(url: str) -> bool:
    try:
        with _connection(url, 2.0) as connection:
            connection.request("GET", "/-/healthy")
            return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False


@contextmanager
def _connection(url: str, seconds: float) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=seconds)
    try:
        yield connection
    finally:
        connection.close()


def _body(engine: dict[str, Any], prompt: str) -> str:
    body = {"model": engine["model"], "stream": True, "messages": [{"role": "user", "content": prompt}]}
    return json.dumps(body, separators=(",", ":"))


def _chat(console: Console, url: str, engine: dict[str, Any]) -> dict[str, Any]:
    """Print a streamed answer as it arrives; return its performance block."""
    block: dict[str, Any] | None = None
    patience = _SILENCE_SECONDS + (engine["ttft_ms"] + engine["itl_ms"] * engine["tokens_per_chunk"]) / 1e3
    console.print(f"[dim]POST {_PATH}[/]  {_PROMPT}\n")
    with _connection(url, patience) as connection:
        connection.request("POST", _PATH, _body(engine, _PROMPT), {"content-type": "application/json"})
        response = connection.getresponse()
        if response.status != _OK:
            raise DemoError(f"the answer was {response.status}: {response.read().decode(errors='replace')}")
        for event in _events(response):
            for choice in event.get("choices") or []:
                console.print(_text(choice.get("delta") or {}), end="", soft_wrap=True, style="cyan")
            block = event.get("performance", block)
    console.print("\n")
    if block is None:
        raise DemoError('the answer has no member "performance"')
    return block


def _events(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The events of the engine's stream: every one of its flavors writes one line of JSON an event."""
    for line in response:
        field, _, value = line.partition(b":")
        if field == b"data" and value.strip().startswith(b"{"):
            yield json.loads(value)


def _text(delta: dict[str, Any]) -> Text:
    return Text("".join(delta.get(name) or "" for name in ("reasoning", "reasoning_content", "content")))


def _show(console: Console, block: dict[str, Any]) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title_justify="left")
    table.title = Text('What it cost: the member "performance" of the last chunk', style="bold")
    table.add_column("field", no_wrap=True)
    table.add_column("value", justify="right")
    table.add_column("meaning", overflow="fold")
    unavailable = block.get("unavailable") or {}
    for name, value in block.items():
        if name == "unavailable":
            continue
        meaning = _MEANINGS.get(name, "")
        if value is None:
            reason = str(unavailable.get(name, ""))
            table.add_row(name, "null", _REASONS.get(reason, reason) or meaning, style="dim")
        else:
            table.add_row(name, Text(_value(name, value), style="green"), meaning)
    console.print(table)


def _value(name: str, value: Any) -> str:
    unit = next((unit for suffix, unit in _UNITS.items() if name.endswith(suffix)), "")
    if isinstance(value, dict):
        return "\n".join(f"{part} {_value('' if part == 'stalls' else name, one)}" for part, one in value.items())
    if isinstance(value, float):
        return f"{value:,.3f}{unit}"
    return f"{value}{unit}" if isinstance(value, (int, str)) else json.dumps(value)


def _leave_curl(console: Console, url: str | None, engine: dict[str, Any]) -> None:
    """Print lines to be copied: no wrapping, no markup."""
    if url is None:
        console.print("[bold]Try it yourself.[/] Engine and proxy stay if started with")
        console.print("  fastwrap demo --keep")
        console.print("and in front of your own engine, with its address:")
        console.print("  fastwrap serve --upstream http://127.0.0.1:8000")
        console.print("  fastwrap doctor --upstream http://127.0.0.1:8000")
        console.print("Then ask fastwrap instead of the engine:")
    else:
        console.print("[bold]Try it yourself[/], in another terminal:")
    # JSON all the same, and narrow enough for a terminal.
    body = _quoted(_body(engine, "hi")).replace(',"messages"', ',\n         "messages"')
    curl = (
        f"  curl -N {url or 'http://127.0.0.1:8080'}{_PATH} \\",
        "    -H 'content-type: application/json' \\",
        f"    -d '{body}'",
    )
    console.print(Text("\n".join(curl)), soft_wrap=True)


def _quoted(text: str) -> str:
    """Escape for single quotes of the shell."""
    return text.replace("'", "'\\''")


def _wait(console: Console, children: _Children) -> None:
    console.print("\nBoth run until Ctrl-C.")
    try:
        children.ended.wait()
    except SystemExit:  # Ctrl-C is how this ends
        console.print("\nEnding both.")
        return
    raise DemoError(f"a process ended by itself:\n{children.tail}".rstrip())
