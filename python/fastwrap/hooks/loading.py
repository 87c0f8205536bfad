"""Finds plugins: those that are named, ``module:object?option=value``, and those of installed packages."""

from __future__ import annotations

import inspect
from functools import reduce
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import pluggy

from fastwrap.errors import PluginError
from fastwrap.hooks.contract import GROUP, Contract

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.metadata import EntryPoint

_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
#: What an option's text is made, by the name of the type of the argument that it is for; else it stays text.
_CONVERT: dict[str, tuple[Callable[[str], object], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (lambda text: _TRUTH[text.lower()], "true or false"),
    "Path": (Path, "a path"),
}


def load(names: Sequence[str]) -> pluggy.PluginManager:
    """Return the plugins that are named and those that are installed, in this order, which is that of their calls.

    Raises:
        PluginError: If one cannot be loaded; says what to do.
    """
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    wanted = [(source, options) for source, _, options in (name.partition("?") for name in names)]
    named = {source for source, _ in wanted}
    wanted += [(name, "") for name in installed if name not in named]
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(Contract)
    made = [(source, _make(source, _find(source, installed), options)) for source, options in wanted]
    for at, (source, plugin) in reversed([*enumerate(made, 1)]):  # pluggy calls the last one first
        is_alone = [name for name, _ in made].count(source) == 1
        _register(manager, source if is_alone else f"{source} ({at})", plugin)
    return manager


def _find(source: str, installed: dict[str, EntryPoint]) -> Any:
    try:
        if ":" not in source and source in installed:
            return installed[source].load()
        module, colon, path = source.partition(":")
        if not colon:
            known = f"installed are {', '.join(installed)}" if installed else "none is installed"
            raise PluginError(f"the plugin {source!r}: name it as module:object; or an installed one, {known}")
        return reduce(getattr, path.split("."), import_module(module))
    except (ImportError, AttributeError, ValueError) as error:
        hint = "is its package installed in fastwrap's environment, and its name right?"
        raise PluginError(f"the plugin {source} cannot be loaded: {error}; {hint}") from error


def _make(source: str, found: Any, text: str) -> object:
    if not callable(found):
        if text:
            raise PluginError(f"the plugin {source} is no class and no function: it takes no options")
        return found
    try:
        options = _options(source, found, dict(parse_qsl(text, keep_blank_values=True)))
        return found(**options)
    except PluginError:
        raise
    except Exception as error:
        raise PluginError(f"the plugin {source} cannot be made: {type(error).__name__}: {error}") from error


def _options(source: str, factory: Callable[..., object], given: dict[str, str]) -> dict[str, object]:
    signature = inspect.signature(factory)
    try:
        signature.bind(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters) or "none"
        raise PluginError(f"the plugin {source}: {error}; its options are {known}: {source}?name=value") from error
    parameters = signature.parameters
    return {
        name: _converted(source, name, text, parameters[name].annotation) if name in parameters else text
        for name, text in given.items()
    }


def _converted(source: str, name: str, text: str, annotation: Any) -> object:
    hint = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    convert, words = _CONVERT.get(hint.partition(" | ")[0], (str, ""))
    try:
        return convert(text)
    except (ValueError, KeyError):
        raise PluginError(f"the plugin {source}: its option {name} must be {words}") from None


def _register(manager: pluggy.PluginManager, source: str, plugin: object) -> None:
    try:
        manager.register(plugin, source)
        manager.check_pending()
    except (pluggy.PluginValidationError, ValueError) as error:
        raise PluginError(f"the plugin {source} cannot be used: {error}") from error
    if not manager.get_hookcallers(plugin):
        hint = "mark its methods with @fastwrap.hooks.hookimpl"
        raise PluginError(f"the plugin {source} has no hook: {hint}")
