"""The one tree of errors."""

from __future__ import annotations


class FastwrapError(Exception):
    """The root of fastwrap's errors; its text says what to do."""


class SettingsError(FastwrapError):
    """A setting cannot be used.

    Attributes:
        option: The setting's name, as in :class:`fastwrap.settings.Settings`.
    """

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


class EngineError(FastwrapError):
    """The engine could not be asked.

    Attributes:
        fault: The word for what went wrong, one of ``fastwrap._native``'s fault codes.
    """

    def __init__(self, fault: str, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class KeyFileError(FastwrapError):
    """A file of keys cannot be used; never says what stands in it."""


class PluginError(FastwrapError):
    """A plugin cannot be loaded."""


class PortError(FastwrapError):
    """The address cannot be listened on."""
