"""The engine: what it is, and what it shows."""

from __future__ import annotations

import asyncio
import http
import time
from typing import TYPE_CHECKING, Any

from fastwrap import _native, backends, gauges, processes
from fastwrap.backends.base import json_object
from fastwrap.doctor.check import MEBIBYTE, Check, within
from fastwrap.doctor.reach import reach
from fastwrap.errors import EngineError
from fastwrap.upstream import Reply, Upstream

if TYPE_CHECKING:
    from fastwrap.backends.base import Backend

_CONNECT_SECONDS = 3.0
_ASK_SECONDS = 2.0
_NO_ANSWER = 0
#: For all questions to an engine together.
_ENGINE_SECONDS = 15.0
_PROCESSES_SECONDS = 10.0
_MANY_MODELS = 3


def look_at_engine(upstream: str, key: str = "") -> list[Check]:
    """Look for an engine, if one is named, and ask it."""
    if not upstream:
        return [Check("engine", "warning", "not looked for", "fastwrap doctor --upstream http://127.0.0.1:8000")]
    try:
        _native.check_upstream(upstream)
        # As in the settings: of an OpenAI base URL the root is meant.
        root = upstream.rstrip("/").removesuffix("/v1")
        began = time.monotonic()
        within(_CONNECT_SECONDS + 1, lambda: reach(root, _CONNECT_SECONDS))
        took_ms = (time.monotonic() - began) * 1e3
        checks = within(_ENGINE_SECONDS, lambda: asyncio.run(_ask(root, took_ms, key)))
        return [*checks, _processes(root)]
    except ValueError as error:
        return [Check("engine", "problem", str(error), "correct --upstream")]
    except OSError as error:  # TimeoutError is one
        advice = "start the engine, or correct --upstream; in a container 127.0.0.1 is the container itself"
        return [Check("engine", "problem", f"{upstream}: {error.strerror or error}", advice)]


async def _ask(upstream: str, took_ms: float, key: str) -> list[Check]:
    client = Upstream(upstream, connect_timeout=_ASK_SECONDS)

    async def ask(path: str) -> Reply:
        try:
            return await client.get(path, _ASK_SECONDS, key)
        except EngineError:
            return Reply(_NO_ANSWER, {}, b"")

    try:
        try:
            await client.get("/", _ASK_SECONDS, key)  # some engines generate a token for /health
        except EngineError as error:
            advice = "is it an HTTP server? https:// or http://? Is the engine still loading?"
            return [Check("engine", "problem", f"{upstream} accepts connections, but: {error}", advice)]
        backend = await backends.recognise(ask)
        health = await ask(backend.health_path)
        page = await ask(backend.metrics_path) if backend.gauges else None
        models = json_object(await ask("/v1/models")).get("data")
    finally:
        await client.close()
    found = f"{upstream}: {backend.name}, connects in {took_ms:.1f} ms"
    kind = Check("engine", "ok", found)
    if backend.name == "openai":
        advice = "if it is one of those that fastwrap knows: --backend NAME"
        kind = Check("engine", "ok", f"{found} (not recognised: taken for any OpenAI API)", advice)
    return [kind, _health(backend.health_path, health.status), _models(models), _gauges(backend, page)]


#: What has to be given to an engine that has gauges, but shows none.
_GAUGES_ADVICE = {
    "sglang": "start the engine with --enable-metrics",
    "lmdeploy": "start the engine with --enable-metrics",
    "llamacpp": "start the engine with --metrics",
    "vllm": "start the engine without --disable-log-stats",
}


def _gauges(backend: Backend, page: Reply | None) -> Check:
    """Say which of its gauges the engine shows; one that has none is well, too."""
    if page is None:
        return Check("gauges", "ok", f"{backend.name} has none: its KV cache and queue will be null")
    try:
        values = gauges.read(page.body, backend.gauges) if page.status == http.HTTPStatus.OK else []
    except ValueError as error:
        return Check("gauges", "warning", f"{backend.metrics_path}: {error}", "is this the engine's own page?")
    known = [name for name, value in zip(gauges.NAMES, values, strict=False) if value is not None]
    if not known:
        found = f"{backend.metrics_path}: {page.status or 'no answer'}, without them: they will be null"
        advice = _GAUGES_ADVICE.get(backend.name, "see the engine's documentation of its metrics")
        return Check("gauges", "warning", found, advice)
    return Check("gauges", "ok", f"{backend.metrics_path}: {', '.join(known)}")


_PROCESSES_ADVICE = {
    "engine_remote": "run fastwrap beside the engine, if its processes' memory is wanted",
    "process_not_found": "in containers: let fastwrap share the engine's PID namespace",
    "no_permission": "run fastwrap as the engine's user",
}


def _processes(upstream: str) -> Check:
    memory = processes.EngineMemory(upstream)
    try:
        within(_PROCESSES_SECONDS, memory.look)
        rss_bytes, count = memory.read()
    except TimeoutError as error:
        return Check("processes", "warning", f"{error}: host_memory will be null", "look into dmesg")
    except processes.ProcessesError as error:
        found = f"{error.reason} ({error}): host_memory will be null"
        return Check("processes", "warning", found, _PROCESSES_ADVICE[error.reason])
    return Check("processes", "ok", f"{count} of the engine's, {rss_bytes / MEBIBYTE:,.0f} MiB")


def _health(path: str, status: int) -> Check:
    if _NO_ANSWER < status < 500:  # noqa: PLR2004 (HTTP's first server error)
        return Check("health", "ok", f"{path}: {status}")
    advice = "the engine is still loading, or ill: see its log; /-/ready will answer 503 until then"
    return Check("health", "warning", f"{path}: {status or 'no answer'}", advice)


def _models(models: Any) -> Check:
    names = [str(model.get("id")) for model in models or [] if isinstance(model, dict)]
    if not names:
        return Check(
            "models",
            "warning",
            "/v1/models names none",
            "is one loaded? does the engine want a key (--upstream-api-key-file)?",
        )
    more = f" and {len(names) - _MANY_MODELS} more" if len(names) > _MANY_MODELS else ""
    return Check("models", "ok", ", ".join(names[:_MANY_MODELS]) + more)
