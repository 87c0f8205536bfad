"""fastwrap: a sidecar that speaks an inference engine's OpenAI API unchanged and adds to every answer what it cost."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fastwrap.errors import EngineError, FastwrapError, SettingsError

if TYPE_CHECKING:
    from fastwrap._native import __version__
    from fastwrap.app import Application
    from fastwrap.environment import InferenceEnv, InferenceServerWrapper
    from fastwrap.middleware import PerformanceMiddleware
    from fastwrap.settings import InProcessSettings, Settings

__all__ = [
    "Application",
    "EngineError",
    "FastwrapError",
    "InProcessSettings",
    "InferenceEnv",
    "InferenceServerWrapper",
    "PerformanceMiddleware",
    "Settings",
    "SettingsError",
    "__version__",
]

#: Where the others are, which are loaded when they are asked for: who wants one of them does not wait for all.
_MODULES = {
    "Application": "app",
    "InProcessSettings": "settings",
    "InferenceEnv": "environment",
    "InferenceServerWrapper": "environment",
    "PerformanceMiddleware": "middleware",
    "Settings": "settings",
    "__version__": "_native",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
