"""What is sampled beside the requests goes on whatever goes wrong with it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from fastwrap import processes, watch
from fastwrap.app import Application
from fastwrap.settings import Settings
from proxy.blocks import block_of
from proxy.client import post
from proxy.processes import until
from proxy.scripted import ScriptedEngine
from proxy.test_mounting import uvicorn_serves


def test_what_nobody_foresaw_is_a_null_for_a_time(
    engine: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As psutil's is where a system writes what it does not expect."""
    broken = threading.Event()
    read = processes.EngineMemory.read

    def broken_read(memory: processes.EngineMemory) -> Any:
        if broken.is_set():
            raise ValueError("a field is not there")
        return read(memory)

    monkeypatch.setattr(processes.EngineMemory, "read", broken_read)
    monkeypatch.setattr(watch, "_RETRY_NS", 0)
    monkeypatch.setattr(watch, "_LOOK_COSTS", 0)
    broken.set()
    with uvicorn_serves(Application(Settings(upstream=engine.url, gpu="off", backend="vllm")), "on") as url:

        def reasons() -> dict[str, str]:
            return dict(block_of(post(url))["unavailable"])

        until(lambda: reasons().get("host_memory") == "unknown_error", "it is told")
        until(lambda: reasons()["engine.running"] == "not_offered", "the gauges are asked for all the same")
        broken.clear()
        until(lambda: "host_memory" not in reasons(), "it is read again")
    assert sum("a field is not there" in record.getMessage() for record in caplog.records) == 1
