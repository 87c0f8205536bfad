"""Turns the settings into options of the command line, of the environment and of a TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import click
from click.core import ParameterSource

from fastwrap.errors import SettingsError
from fastwrap.settings import InProcessSettings, Settings, Supervision
from fastwrap.simulation import flag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ENVIRONMENT_PREFIX = "FASTWRAP_"
_CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
_FIELDS = {field.name: field for group in (Settings, Supervision) for field in dataclasses.fields(group)}
_HINTS = get_type_hints(Settings) | get_type_hints(Supervision)
_S = TypeVar("_S", Settings, Supervision, InProcessSettings)
_FILE = "fastwrap.options.file"
#: What a TOML file must hold for a setting of this type; ``bool`` is no number here, though Python's is an ``int``.
_TOML: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "a string"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
    tuple[str, ...]: ((list,), "a list of strings"),
}


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _suggestion(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, [*known], n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"


class SettingOption(click.Option):
    """An option whose errors name where its value came from: command line, environment or file."""

    group = "Other"

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """Return what stands in ``Invalid value for ...``."""
        return _origin(ctx, self.name or "") or super().get_error_hint(ctx)

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Leave out what Kubernetes sets for every Service called "fastwrap": FASTWRAP_PORT=tcp://10.0.0.1:8080."""
        value = super().resolve_envvar_value(ctx)
        return None if self.name == "port" and value is not None and value.startswith("tcp://") else value


def _origin(ctx: click.Context | None, name: str) -> str | None:
    """Where a value came from, unless it was the command line."""
    source = ctx.get_parameter_source(name) if ctx is not None else None
    if source is ParameterSource.ENVIRONMENT:
        return f"{_variable(name)} in the environment"
    if source is ParameterSource.DEFAULT_MAP and ctx is not None:
        return f"{name} in {ctx.meta[_FILE]}"
    return None


class SettingsCommand(click.Command):
    """A command whose help lists its options in the groups of the settings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section a group, all with one width of the first column."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                groups.setdefault(getattr(parameter, "group", SettingOption.group), []).append(record)
        width = max(len(term) for rows in groups.values() for term, _ in rows)
        for title, rows in groups.items():
            with formatter.section(title if len(groups) > 1 else "Options"):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows], col_max=width)


def _read_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    """Make the file's values the defaults: the environment and the command line come before them."""
    _warn_of_variables()
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise click.BadParameter(f"{path} is no TOML file: {error}") from error
    context.meta[_FILE] = path
    context.default_map = {name: _checked(path, name, value) for name, value in _named(path, values)}


def _named(path: Path, values: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            raise click.BadParameter(f"{path}: there are no sections, so no [{key}]: options stand at the top")
        if name not in _FIELDS:
            raise click.BadParameter(f"{path}: there is no option {key!r}; {_suggestion(name, _FIELDS)}")
        yield name, value


def _checked(path: Path, name: str, value: Any) -> Any:
    hint = str if get_origin(_HINTS[name]) is Literal else _HINTS[name]
    types, words = _TOML[hint]
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, types):
        raise click.BadParameter(f"{path}: {name} must be {words}, not {value!r}")
    return value


def _warn_of_variables() -> None:
    """Speak of variables that look like a slip of the pen; others with the prefix may be somebody else's."""
    known = [_CONFIG_VARIABLE, *map(_variable, _FIELDS)]
    for variable in os.environ:
        if variable.startswith(ENVIRONMENT_PREFIX) and variable not in known:
            near = difflib.get_close_matches(variable, known, n=1, cutoff=0.88)
            if near:
                click.echo(f"Warning: {variable} in the environment is unknown; did you mean {near[0]}?", err=True)


def _option(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    field, hint = _FIELDS[name], _HINTS[name]
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    text = field.metadata["help"]
    if choices and field.metadata["metavar"]:
        text += f" One of {', '.join(choices)}."
    if field.default not in ("", ()):
        shown = f"{field.default:g}" if isinstance(field.default, float) else field.default
        shown = "off" if field.default is False else shown
        text += f"  [default: {shown}]"
    is_list = get_origin(hint) is tuple
    cls = type("_Option", (SettingOption,), {"group": field.metadata["group"]})
    return click.option(
        flag(name),
        name,
        cls=cls,
        type=click.Choice(choices) if choices else str if is_list else hint,
        multiple=is_list,
        default=field.default,
        envvar=_variable(name),
        help=text,
        metavar=field.metadata["metavar"],
        is_flag=hint is bool,
    )


def names_of(settings: type[Settings | Supervision | InProcessSettings]) -> tuple[str, ...]:
    """The names of these settings."""
    return tuple(field.name for field in dataclasses.fields(settings))


def settings_options(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command an option for each of these settings, and ``--config``."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        config = click.option(
            "--config",
            cls=SettingOption,
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            envvar=_CONFIG_VARIABLE,
            is_eager=True,
            expose_value=False,
            callback=_read_config,
            help="A TOML file with any of these options, written as max_body_bytes = 1048576.",
        )
        command = config(command)
        for name in reversed(names):
            command = _option(name)(command)
        return command

    return decorate


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Return the settings of a parsed command line.

    Raises:
        click.UsageError: If a value cannot be used; says which, and where it came from.
    """
    _check_place(values)
    return _made(Settings, values)


def supervision_from(values: Mapping[str, Any]) -> Supervision:
    """Return what is to be done with the engine's process, of a parsed command line.

    Raises:
        click.UsageError: As in :func:`settings_from`.
    """
    return _made(Supervision, values)


#: They would protect what fastwrap serves, and in the middleware nothing: to ignore them would leave open what is meant
#: to be shut.
_USELESS = "is for fastwrap serve: in the middleware the application's own protection counts, as vLLM's --api-key"
_PROTECTION = ("api_key_file", "upstream_api_key_file", "tls_certificate", "tls_key", "cors_origins")


def in_process_settings() -> InProcessSettings:
    """Return the environment's settings for the middleware; those of a server, or of the way to an engine, are ignored.

    Raises:
        SettingsError: If a value cannot be used, or would protect nothing; says which, and where it came from.
    """

    @click.command()
    @settings_options(*names_of(InProcessSettings))
    def read(**values: Any) -> InProcessSettings:
        in_file = click.get_current_context().default_map or {}
        for name in _PROTECTION:
            if in_file.get(name) or os.environ.get(_variable(name)):
                raise SettingsError(name, f"{_variable(name)} {_USELESS}")
        return _made(InProcessSettings, values)

    try:
        settings: InProcessSettings = read.main(args=[], prog_name="fastwrap", standalone_mode=False)
    except click.UsageError as error:
        raise SettingsError("", error.format_message()) from error
    return settings


def _made(settings: type[_S], values: Mapping[str, Any]) -> _S:
    try:
        return settings(**{name: values[name] for name in names_of(settings)})
    except SettingsError as error:
        if error.option == "upstream" and not values["upstream"]:
            raise click.UsageError(_NO_UPSTREAM) from error
        hint = _origin(click.get_current_context(silent=True), error.option) or f"'{flag(error.option)}'"
        raise click.BadParameter(str(error), param_hint=hint) from error


def _check_place(values: Mapping[str, Any]) -> None:
    """A file's socket takes the place of host and port: whoever names both means one of them only."""
    context = click.get_current_context(silent=True)
    if context is None or not values["uds"]:
        return
    for name in ("host", "port"):
        if context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT):
            hint = _origin(context, name) or f"'{flag(name)}'"
            raise click.BadParameter(f"{flag('uds')} is given too: listen at one place only", param_hint=hint)


_NO_UPSTREAM = (
    "fastwrap must know the engine's address:\n\n"
    "  fastwrap serve --upstream http://127.0.0.1:8000\n\n"
    f'or {_variable("upstream")}, or upstream = "..." in a --config file. Without an engine: fastwrap demo'
)
