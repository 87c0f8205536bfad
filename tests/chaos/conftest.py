"""How long, and from which seed."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-seconds", type=float, default=60.0, help="How long requests are made.")
    group.addoption("--chaos-seed", type=int, default=1, help="Decides what goes wrong in each request.")
