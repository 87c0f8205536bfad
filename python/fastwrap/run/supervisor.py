"""Keeps an engine and the proxy before it, from the start of the one to the end of both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import click

from fastwrap import holder
from fastwrap.engine import Engine
from fastwrap.run.process import Children, EngineProcess

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastwrap.gate import Gate
    from fastwrap.settings import Settings, Supervision

#: What ends fastwrap; a second one ends it at once. The engine gets the same one.
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
#: What is the engine's only.
_PASSED_ON = (signal.SIGUSR1, signal.SIGUSR2)
_ASK_AGAIN_SECONDS = 0.25
_TELL_SECONDS = 10.0
#: Before an engine that failed is started again; twice as long each time that it did not get ready, up to the last.
_BACK_OFF_SECONDS = (1.0, 60.0)


def say(text: str) -> None:
    """Tell the operator, if anybody listens."""
    with contextlib.suppress(OSError):
        click.echo(f"fastwrap: {text}", err=True)


class Supervisor:
    """The first process of a container.

    Args:
        settings: The proxy's.
        supervision: What is to be done with the engine.
        command: What starts it.
        gate: Shut until it is ready.
        proxy: The proxy's PID, which leads a group.
    """

    def __init__(
        self, settings: Settings, supervision: Supervision, command: Sequence[str], gate: Gate, proxy: int
    ) -> None:
        self._settings = settings
        self._supervision = supervision
        self._command = command
        self._gate = gate
        self._proxy = proxy
        self._engine: EngineProcess | None = None

    async def run(self) -> int:
        """Run until the engine has ended, or fastwrap is told to end, or the proxy dies.

        Returns:
            The exit code: the engine's, or 1 if the proxy has died.

        Raises:
            LogError: If the engine's output cannot be written to its file.
        """
        holder.adopt_orphans()
        self._children = Children()
        self._told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._proxy_ended = self._children.watch(self._proxy)
        self._take_signals()
        try:
            return await self._lives()
        finally:
            await self._end_proxy()

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup does
                loop.add_signal_handler(number, self._on_ending, number)
        for number in _PASSED_ON:
            loop.add_signal_handler(number, self._on_passed_on, number)

    def _on_ending(self, number: int) -> None:
        if not self._told.done():
            self._told.set_result(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._proxy, signal.SIGKILL)
        if self._engine is not None:
            self._engine.kill()

    def _on_passed_on(self, number: int) -> None:
        if self._engine is not None:
            self._engine.signal(number)

    @property
    def _is_over(self) -> bool:
        return self._told.done() or self._proxy_ended.done()

    async def _lives(self) -> int:
        """Start the engine as often as it is to be; return the exit code of the last one."""
        pause, longest = _BACK_OFF_SECONDS
        while True:
            code, was_ready = await self._live()
            if self._is_over or code == 0 or self._supervision.restart == "never":
                return code
            pause = _BACK_OFF_SECONDS[0] if was_ready else pause
            say(f"the engine is started again in {pause:g} s")
            await asyncio.wait([self._told, self._proxy_ended], timeout=pause, return_when=asyncio.FIRST_COMPLETED)
            if self._is_over:
                return code
            pause = min(2 * pause, longest)

    async def _live(self) -> tuple[int, bool]:
        """Start the engine; return its exit code when nothing is left of it, and whether it had been ready."""
        self._has_failed = False
        engine = self._engine = EngineProcess(self._command, self._children, self._supervision.engine_log)
        self._gate.engine_pid = engine.pid
        starting = asyncio.create_task(self._await_start(engine))
        ends = [engine.ended, self._told, self._proxy_ended]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await starting
        was_ready = self._gate.is_open
        if self._told.done():
            await self._end_proxy()  # first, so that requests in flight may end
        self._gate.shut()
        return await self._end(engine), was_ready

    async def _end(self, engine: EngineProcess) -> int:
        """End the engine, if it has not; return the exit code that there is to be."""
        if self._proxy_ended.done() and not self._told.done():
            say("the proxy has died")
            self._has_failed = True
        number = self._told.result() if self._told.done() else signal.SIGTERM
        await engine.end(number, self._supervision.stop_timeout)
        code = await engine.close(self._proxy)
        say(f"the engine ended with {code}")
        return code or int(self._has_failed)

    async def _await_start(self, engine: EngineProcess) -> None:
        """Open the gate when the engine is ready; end an engine that is not in time."""
        began = time.monotonic()
        try:
            await asyncio.wait_for(self._await_ready(began), self._supervision.start_timeout or None)
        except asyncio.TimeoutError:
            say(f"the engine was not ready in {self._supervision.start_timeout:g} s (--start-timeout)")
            self._has_failed = True
            await engine.end(signal.SIGTERM, self._supervision.stop_timeout)
        except Exception:
            engine.kill()  # nobody would wait for it
            raise
        else:
            self._gate.open()
            say(f"the engine is ready after {time.monotonic() - began:.1f} s")

    async def _await_ready(self, began: float) -> None:
        asked = Engine(self._settings)
        asked.start()
        told = began
        try:
            while not (state := await asked.ask_state()).ready:
                if time.monotonic() - told >= _TELL_SECONDS:
                    told = time.monotonic()
                    kind, place = state.backend, self._settings.upstream
                    say(f"waiting for {kind} at {place}: {told - began:.0f} s ({state.detail})")
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
        finally:
            await asked.stop()

    async def _end_proxy(self) -> None:
        """Let it drain, if it still runs."""
        if not self._proxy_ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._proxy, signal.SIGTERM)
            await self._proxy_ended
