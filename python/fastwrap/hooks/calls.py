"""Calls the hooks: a failure of one is counted and told once, and concerns nobody else."""

from __future__ import annotations

import atexit
import json
import logging
import threading
import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastwrap.hooks.contract import Arrival, FirstToken, Record, Reject, Request
from fastwrap.hooks.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastwrap._native import HookQueue, Meter
    from fastwrap.relays.base import Headers

    Answer = tuple[int, list[tuple[bytes, bytes]], bytes, str]
    Call = Callable[..., list[Any]]

_T = TypeVar("_T")
_TOLD: dict[str, tuple[str, Callable[..., object]]] = {
    "on_request": ("arrival", Arrival),
    "on_first_token": ("first_token", FirstToken),
    "on_record": ("record", Record),
}
#: With ``--api-key-file`` a client's key goes no further than fastwrap.
_KEY_HEADERS = (b"authorization", b"x-api-key")
_UNAVAILABLE = Reject(
    "The request could not be validated. Try again later.", 503, "validation_unavailable", "server_error", 1
)
_LATE = "it took longer than --hook-timeout"

_logger = logging.getLogger("fastwrap.hooks")


class Hooks:
    """The plugins of one worker.

    Args:
        meter: Of the requests.
        names: As in ``--plugin``; others may be installed.
        hides_keys: Whether a client's key goes no further.

    Raises:
        PluginError: If a plugin cannot be loaded.
    """

    def __init__(self, meter: Meter, names: Sequence[str], *, hides_keys: bool) -> None:
        self._meter = meter
        self._hides_keys = hides_keys
        self._manager = load(names)
        self._calls = {hook: [*self._calls_of(hook)] for hook in (*_TOLD, "validate", "enrich")}
        self.validates = bool(self._calls["validate"])
        self._fails_closed = any(getattr(plugin, "fail_closed", False) for plugin, _ in self._calls["validate"])
        self._known: set[tuple[object, ...]] = set()
        told = [hook for hook in _TOLD if self._calls[hook]]
        self._queue: HookQueue = meter.set_hooks(told, self.enrich if self._calls["enrich"] else None)
        self._thread = threading.Thread(target=self._run, name="fastwrap-hooks", daemon=True)

    def _calls_of(self, hook: str) -> Iterator[tuple[object, Call]]:
        """Each plugin that has this hook with a call of it alone, in the order of the calls."""
        plugins = self._manager.get_plugins()
        for implementation in reversed(getattr(self._manager.hook, hook).get_hookimpls()):
            others = plugins - {implementation.plugin}
            yield implementation.plugin, self._manager.subset_hook_caller(hook, others)

    def start(self) -> None:
        """Begin to tell hooks what happens; call it in the worker, after any fork."""
        names = ", ".join(name for name, _ in self._manager.list_name_plugin())
        _logger.info("plugins: %s", names)
        self._thread.start()
        atexit.register(self.stop)  # a daemon thread that the interpreter ends in native code can abort the process

    def stop(self, timeout_s: float = 2.0) -> None:
        """Tell what is left, and end; a hook that hangs is left behind after ``timeout_s``."""
        atexit.unregister(self.stop)
        self._queue.close()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while events := self._queue.take():
            for hook, at, data in events:
                name, make = _TOLD[hook]
                told = make(at=at, **json.loads(data))
                for plugin, call in self._calls[hook]:
                    self._guarded(hook, plugin, partial(call, **{name: told}))

    def _guarded(self, hook: str, plugin: object, work: Callable[[], _T]) -> _T | None:
        """Return what comes of the work; None if it fails."""
        try:
            return work()
        except (Exception, SystemExit) as error:  # noqa: BLE001 (somebody else's code)
            self._failed(hook, plugin, error)
            return None

    def validate(  # noqa: PLR0913, PLR0917 (a request)
        self, request_id: str, key_id: str | None, method: str, target: bytes, headers: Headers, body: bytes
    ) -> Answer | None:
        """Return the answer in the engine's place, if a plugin refuses the request; in a thread that may hang."""
        path, _, query = target.decode("latin-1").partition("?")
        kept = [(name, value) for name, value in headers if not (self._hides_keys and name.lower() in _KEY_HEADERS)]
        request = Request(request_id, key_id, method, path, query, body, kept)
        for plugin, call in self._calls["validate"]:
            said = self._guarded("validate", plugin, partial(_rejections, call, request))
            if said is None and getattr(plugin, "fail_closed", False):
                return _UNAVAILABLE.answer()
            if said:
                return said[0].answer()
        return None

    def late(self) -> Answer | None:
        """No plugin has refused the request in time; return the answer if it must not pass unseen."""
        self._meter.hook_error("validate")
        self._tell(("validate", _LATE), "validate", "a plugin", _LATE)
        return _UNAVAILABLE.answer() if self._fails_closed else None

    def enrich(self, data: bytes) -> bytes:
        """Return the members that plugins add to the block of a record, as ``,"name":value``."""
        record = Record(at=time.time(), **json.loads(data))
        added: dict[str, Any] = {}
        for plugin, call in self._calls["enrich"]:
            taken = {*record.performance, *added}
            added |= self._guarded("enrich", plugin, partial(_members, call, record, taken)) or {}
        return b"," + json.dumps(added, separators=(",", ":")).encode()[1:-1] if added else b""

    def _failed(self, hook: str, plugin: object, error: BaseException) -> None:
        self._meter.hook_error(hook)
        # Its text may quote the request.
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
        what = f"{type(error).__name__} at {place}"
        name = self._manager.get_name(plugin) or type(plugin).__name__
        self._tell((hook, name, what), hook, name, what)

    def _tell(self, known_as: tuple[object, ...], *words: str) -> None:
        """Say it the first time; the metric counts every time."""
        if known_as not in self._known:
            self._known.add(known_as)
            _logger.warning("the hook %s of %s failed: %s (told once; fastwrap_hook_errors_total counts)", *words)


def _rejections(call: Call, request: Request) -> list[Reject]:
    said = call(request=request)
    if not all(isinstance(one, Reject) for one in said):
        raise TypeError("validate returns None or a Reject")
    return said


def _members(call: Call, record: Record, taken: set[str]) -> dict[str, Any]:
    """What a plugin adds, if it is JSON under names of its own."""
    members = {name: value for said in call(record=record) for name, value in said.items()}
    if not taken.isdisjoint(members):
        raise ValueError("a member of the block has this name already")
    json.dumps(members, allow_nan=False)
    return members
