"""The package that docs/hooks.md walks through is one: it is installed by pip, found, and works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fastwrap.hooks.loading import load
from proxy.client import post
from proxy.processes import Proxy
from proxy.scripted import ScriptedEngine

_ROOT = Path(__file__).parents[2]
_PACKAGE = _ROOT / "examples" / "fastwrap-price"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", target, _PACKAGE], check=True)
    return target


def test_it_is_loaded_because_it_is_installed(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load([]).list_name_plugin() == []
    monkeypatch.syspath_prepend(str(installed))
    assert [name for name, _ in load([]).list_name_plugin()] == ["price"]


def test_its_options_are_in_the_environment(installed: Path) -> None:
    engine = ScriptedEngine()
    options = "price?dollars_per_million_tokens=2&most_tokens=10"
    env = {"PYTHONPATH": str(installed), "FASTWRAP_PLUGIN": options}
    proxy = Proxy(engine.url, "--server", "native", "--backend", "vllm", env=env)
    priced = post(proxy.url).json["performance"]
    refused = post(proxy.url, {"model": "m", "messages": [], "max_tokens": 11})
    proxy.stop()
    engine.close()
    assert priced["price_usd"] == 6 * 2 / 1e6
    assert (refused.status, refused.error["code"]) == (400, "too_many_tokens")
    assert "plugins: price" in proxy.log


@pytest.mark.parametrize("name", ["pyproject.toml", "fastwrap_price.py"])
def test_the_page_shows_it_as_it_is(name: str) -> None:
    page = (_ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    assert (_PACKAGE / name).read_text(encoding="utf-8") in page
