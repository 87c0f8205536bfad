"""The middleware's settings: FASTWRAP_* in the environment, as for `fastwrap serve` where they apply."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from fastwrap.errors import SettingsError
from fastwrap.middleware import PerformanceMiddleware
from fastwrap.settings import InProcessSettings
from middleware.asgi import ask, whole
from proxy.blocks import block_of

ANSWER = json.dumps({"id": "c", "usage": {"completion_tokens": 2}}).encode()


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GPU", "ENGINE_SAMPLES"):
        monkeypatch.setenv(f"FASTWRAP_{name}", "off")


def test_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "fastwrap.toml"
    config.write_text('upstream = "http://engine"\nstall_ms = 5\nenrich = "body"\n')
    for name, value in {"CONFIG": str(config), "ENRICH": "usage", "PORT": "1", "UPSTREAM": "http://engine"}.items():
        monkeypatch.setenv(f"FASTWRAP_{name}", value)
    app = PerformanceMiddleware(whole(ANSWER))
    assert app.settings == InProcessSettings(enrich="usage", stall_ms=5, gpu="off", engine_samples="off")
    block = ask(app).json["usage"]["performance"]
    assert (block["backend"], block["unavailable"]["gpu"]) == ("openai", "disabled")
    assert block["unavailable"]["host_memory"] == block["unavailable"]["engine.running"] == "disabled"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ENRICH", "trailer", "FASTWRAP_ENRICH in the environment: 'trailer' is no place"),
        ("STALL_MS", "soon", "FASTWRAP_STALL_MS in the environment"),
        ("MAX_BODY_BYTES", "0", "it must be 1 to"),
        ("API_KEY_FILE", "/keys", "FASTWRAP_API_KEY_FILE is for fastwrap serve"),
        ("TLS_KEY", "/key.pem", "FASTWRAP_TLS_KEY is for fastwrap serve"),
        ("CORS_ORIGINS", "*", "FASTWRAP_CORS_ORIGINS is for fastwrap serve"),
    ],
)
def test_what_cannot_be_used_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(f"FASTWRAP_{name}", value)
    with pytest.raises(SettingsError, match=words):
        PerformanceMiddleware(whole(ANSWER))


def test_nor_may_a_file_protect_what_it_cannot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "fastwrap.toml"
    config.write_text('api_key_file = "/keys"\n')
    monkeypatch.setenv("FASTWRAP_CONFIG", str(config))
    with pytest.raises(SettingsError, match="FASTWRAP_API_KEY_FILE is for fastwrap serve"):
        PerformanceMiddleware(whole(ANSWER))


def test_that_of_vllm_reads_them_when_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("fastwrap.vllm")
    app = importlib.reload(module).PerformanceMiddleware(whole(ANSWER))
    assert block_of(ask(app))["backend"] == "vllm"
    monkeypatch.setenv("FASTWRAP_BACKEND", "sglang")
    app = importlib.reload(module).PerformanceMiddleware(whole(ANSWER))
    assert block_of(ask(app))["backend"] == "sglang"
    monkeypatch.setenv("FASTWRAP_ENRICH", "trailer")
    with pytest.raises(SettingsError):
        importlib.reload(module)
