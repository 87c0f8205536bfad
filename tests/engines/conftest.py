"""Which engines run, and one of each: started, with fastwrap in front of it, for all tests of it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engines.processes import KINDS, Kind, NotInstalledError, Site, engine, fastwrap

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What a run of continuous integration has time for.
CI_ENGINES = ("transformers", "llamacpp", "vllm")
#: Each relay, and each server.
WAYS: dict[str, tuple[str, ...]] = {
    "native": (),
    "httpx": ("--relay", "httpx"),
    "native-server": ("--server", "native"),
}
#: Both servers, asking for a stream where JSON is wanted.
ASSEMBLING: dict[str, tuple[str, ...]] = {
    "assembling": ("--measure-json-as-stream",),
    "assembling-native-server": ("--measure-json-as-stream", "--server", "native"),
}
#: Without a hop: the middleware, where the engine's own server takes one (`engines.inside`).
INSIDE = "inside"
INSTALL_WITHIN_S = 240.0

IN_CI = os.environ.get("CI") == "true"
FOLDER = Path(
    os.environ.get("FASTWRAP_ENGINES") or Path(__file__).resolve().parents[3] / "shared" / "engines"
).resolve()


def chosen() -> list[Kind]:
    """Return the engines that are to run: FASTWRAP_TEST_ENGINES is a list of names, or `all`."""
    every = [kind.name for kind in KINDS]
    wanted = os.environ.get("FASTWRAP_TEST_ENGINES") or ("all" if not IN_CI else ",".join(CI_ENGINES))
    names = every if wanted == "all" else wanted.split(",")
    if unknown := set(names) - set(every):
        raise pytest.UsageError(f"FASTWRAP_TEST_ENGINES: {', '.join(sorted(unknown))}: there are {', '.join(every)}")
    return [kind for kind in KINDS if kind.name in names]


@pytest.fixture(scope="session", params=chosen(), ids=lambda kind: kind.name)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One engine after the other, never two at a time: pytest sorts the tests so."""
    kind: Kind = request.param
    if not (FOLDER / "serve.sh").exists():
        pytest.skip(f"no engines in {FOLDER}: name their folder in FASTWRAP_ENGINES, then: install.sh {kind.name}")
    if IN_CI and kind.name == "transformers":  # 20 s from nothing, and nothing where it is already
        subprocess.run([str(FOLDER / "install.sh"), kind.name], check=True, timeout=INSTALL_WITHIN_S)
    logs = tmp_path_factory.mktemp(kind.name)
    with contextlib.ExitStack() as stack:
        try:
            running, direct, model = stack.enter_context(engine(kind, FOLDER, logs))
        except NotInstalledError:
            pytest.skip(f"{kind.name} is not installed: {FOLDER}/install.sh {kind.name}")
        through = {
            way: stack.enter_context(fastwrap(direct, options, logs / f"fastwrap-{way}.log"))
            for way, options in (WAYS | ASSEMBLING).items()
        }
        if "middleware" in kind.has:
            through[INSIDE] = f"{direct}/{INSIDE}"
        yield Site(kind, running, direct, through, model)


def _way(request: pytest.FixtureRequest, site: Site) -> str:
    name: str = request.param
    if name not in site.through:
        pytest.skip(f"{site.kind.name} takes no middleware")
    return name


@pytest.fixture(params=ASSEMBLING)
def assembling(request: pytest.FixtureRequest) -> str:
    """A way that asks the engine for streams: the test runs with each."""
    name: str = request.param
    return name


@pytest.fixture(params=[*WAYS, INSIDE])
def way(request: pytest.FixtureRequest, site: Site) -> str:
    """A way through fastwrap: the test runs with each."""
    return _way(request, site)


@pytest.fixture(params=["native", INSIDE])
def near(request: pytest.FixtureRequest, site: Site) -> str:
    """The ways whose Python differs most: for what all of them do in the core."""
    return _way(request, site)
