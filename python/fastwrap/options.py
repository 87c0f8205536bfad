"""Turns :class:`fastwrap.settings.Settings` into options of the command line, of the environment and of a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import click

from fastwrap.errors import SettingsError
from fastwrap.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "FASTWRAP"


def _click_type(hint: Any) -> Any:
    return click.Choice(get_args(hint)) if get_origin(hint) is Literal else hint


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults: the environment and the command line come before them."""
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path}: {error}") from error
    known = [field.name for field in dataclasses.fields(Settings)]
    defaults = {key.replace("-", "_"): value for key, value in values.items()}
    for key in defaults:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise click.BadParameter(f"{path}: there is no option {key!r}; {hint}")
    context.default_map = defaults


def settings_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for every setting, and ``--config``."""
    hints = get_type_hints(Settings)
    for field in reversed(dataclasses.fields(Settings)):
        command = click.option(
            _flag(field.name),
            field.name,
            type=_click_type(hints[field.name]),
            default=field.default,
            show_default=field.default != "",
            envvar=f"{ENVIRONMENT_PREFIX}_{field.name.upper()}",
            help=field.metadata["help"],
            metavar=field.metadata["metavar"],
        )(command)
    config = click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar=f"{ENVIRONMENT_PREFIX}_CONFIG",
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="A TOML file with any of these options, written as max_body_bytes = 1048576.",
    )
    return config(command)


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Return the settings of a parsed command line.

    Raises:
        click.BadParameter: If a value cannot be used; says which option.
    """
    try:
        return Settings(**values)
    except SettingsError as error:
        raise click.BadParameter(str(error), param_hint=f"'{_flag(error.option)}'") from error
