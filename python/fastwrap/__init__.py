"""fastwrap: a sidecar that speaks an inference engine's OpenAI API unchanged and adds to every answer what it cost."""

from __future__ import annotations

from fastwrap._native import __version__
from fastwrap.app import Application
from fastwrap.errors import EngineError, FastwrapError, SettingsError
from fastwrap.settings import Settings

__all__ = ["Application", "EngineError", "FastwrapError", "Settings", "SettingsError", "__version__"]
