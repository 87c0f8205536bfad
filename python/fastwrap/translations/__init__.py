"""Chat completions for engines that have only an API of their own: one translation a file.

To add an engine: write its file, and name it in ``--translate-chat``, as ``module:Class`` if it is not one of these.
"""

from __future__ import annotations

import importlib

from fastwrap.translations.base import Translation

#: Those that are here.
NAMES = ("llamacpp", "sglang", "tgi")


def translation(name: str) -> type[Translation]:
    """Return the translation called so: one of :data:`NAMES`, or ``module:Class``.

    Raises:
        ValueError: If there is none; says what to do.
    """
    module, _, attribute = name.partition(":")
    if name in NAMES:
        module, attribute = f"{__name__}.{name}", "TRANSLATION"
    elif not (module and attribute):
        raise ValueError(
            f"there is no translation {name!r}: use {', '.join(NAMES)}, or module:Class for one of your own"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} cannot be loaded: {error}; is its directory in PYTHONPATH?") from error
    if not (isinstance(found, type) and issubclass(found, Translation)):
        raise ValueError(f"{name} is no subclass of {Translation.__module__}.Translation")  # noqa: TRY004 (an option's)
    if missing := sorted(found.__abstractmethods__):
        raise ValueError(f"{name} has no {' and no '.join(missing)}: see {Translation.__module__}.Translation")
    return found
