"""The processes that many tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from proxy.processes import Process, Proxy
from proxy.scripted import ScriptedEngine, chat

#: What stands before the engine: every test that serves runs on each of them.
STACKS = {
    "granian-native": ("--server", "granian", "--relay", "native"),
    "granian-httpx": ("--server", "granian", "--relay", "httpx"),
    "native": ("--server", "native"),
}
Serve = Callable[..., Proxy]


@pytest.fixture(scope="session", params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    """The server and the relay."""
    return str(request.param)


@pytest.fixture(scope="session", params=["native", "httpx"])
def relay(request: pytest.FixtureRequest) -> str:
    """The relay, for an application without fastwrap's own server."""
    return str(request.param)


@pytest.fixture(scope="session")
def served(stack: str) -> Iterator[Serve]:
    """Starts `fastwrap serve` once for each upstream and set of options; for tests that leave it as it was."""
    running: dict[tuple[str, ...], Proxy] = {}
    with ExitStack() as cleanup:

        def serve(upstream: str, *options: str) -> Proxy:
            key = (upstream, *options)
            if key not in running:
                running[key] = Proxy(upstream, *STACKS[stack], *options)
                cleanup.callback(running[key].stop)
            return running[key]

        yield serve


@pytest.fixture
def serve(stack: str) -> Iterator[Serve]:
    """Starts a `fastwrap serve` for one test alone."""
    with ExitStack() as cleanup:

        def start(upstream: str, *options: str, env: dict[str, str] | None = None) -> Proxy:
            proxy = Proxy(upstream, *STACKS[stack], *options, env=env)
            cleanup.callback(proxy.stop)
            return proxy

        yield start


@pytest.fixture(scope="session")
def _scripted() -> Iterator[ScriptedEngine]:
    engine = ScriptedEngine()
    yield engine
    engine.close()


@pytest.fixture
def engine(_scripted: ScriptedEngine) -> Iterator[ScriptedEngine]:
    """The scripted engine that `proxy` stands before; it answers chats until it is told otherwise."""
    _scripted.use(chat)
    yield _scripted
    failures = list(_scripted.failures)
    _scripted.use(chat)
    assert not failures


@pytest.fixture
def authority(tmp_path: Path) -> tuple[trustme.CA, dict[str, str]]:
    """A certificate authority, and the environment of those who trust it."""
    made = trustme.CA()
    bundle = tmp_path / "ca.pem"
    made.cert_pem.write_to_path(str(bundle))
    return made, {"SSL_CERT_FILE": str(bundle)}


@pytest.fixture
def proxy(served: Serve, engine: ScriptedEngine) -> Proxy:
    """`fastwrap serve` with its defaults before `engine`."""
    return served(engine.url, "--backend", "vllm")


@pytest.fixture(scope="session")
def simulated() -> Iterator[Callable[..., str]]:
    """Starts `fastwrap engine` once for each set of options, and gives its URL."""
    running: dict[tuple[str, ...], Process] = {}

    def start(*options: str) -> str:
        if options not in running:
            running[options] = Process("engine", *options)
        return running[options].url

    yield start
    for process in running.values():
        process.stop()
