"""How long, how many, and from which seed; and what the runs have to tell."""

from __future__ import annotations

from collections.abc import Callable

import pytest

Tell = Callable[[str], None]
_TOLD = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seconds", type=float, default=60.0, help="How long requests are made.")
    group.addoption("--chaos-seed", type=int, default=1, help="Decides what goes wrong in each request.")
    group.addoption("--chaos-clients", type=int, default=48, help="How many make requests at once.")
    group.addoption("--kills", type=int, default=20, help="How often the engine is killed.")
    group.addoption("--departures", type=int, default=20, help="How many clients leave in each phase.")
    group.addoption("--body-mib", type=int, default=8, help="How large each of the bodies is that come at once.")
    group.addoption("--streams", type=int, default=200, help="How many streams are open at once.")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_TOLD] = []


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Tell:
    """Takes a line for the summary at the end: what was measured."""

    def take(line: str) -> None:
        request.config.stash[_TOLD].append(f"{request.node.name}: {line}")

    return take


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if told := config.stash[_TOLD]:
        terminalreporter.section("endurance")
        for line in told:
            terminalreporter.line(line)
