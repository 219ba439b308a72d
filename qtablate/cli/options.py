"""Options of the command line: those of a configuration, generated from its fields, and numbers with bounds."""

import inspect
import math
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.core import TyperCommand

from qtablate.config import SECTIONS, default_text, fields
from qtablate.config_messages import number_words
from qtablate.errors import ConfigError
from qtablate.setting import Option

POSITIVE = math.ulp(0.0)
"""The least number above zero."""
PANELS = {"grid": "Grid", "train": "Training", "eval": "Evaluation", "data": "Model and data", "run": "Running"}
Given = dict[tuple[str, str], Any]
"""Settings that stand on the command line, by section and field."""


def number(least: float, most: float = math.inf, help: str = "") -> Any:
    """A float option from `least` to `most`, the least itself left out where it is POSITIVE. NaN and infinity are refused, too,
    which pass the bounds of some versions of Typer. Raises ConfigError that names option, value and bounds."""
    bounds = {"gt": 0.0} if least == POSITIVE else {"ge": least}
    if math.isfinite(most):
        bounds["le"] = most
    wanted = number_words(bounds)

    def checked(param: typer.CallbackParam, text: str | None) -> float | None:
        with suppress(ValueError):
            if text is None or (math.isfinite(value := float(text)) and least <= value <= most):
                return None if text is None else value
        raise ConfigError(f"{max(param.opts, key=len)}: expected {wanted}, got {text}")

    return typer.Option(help=help, parser=str, callback=checked, metavar="NUMBER")


def one_of(option: str, text: str, known: Iterable[str]) -> str:
    """A value out of a few. Raises ConfigError that names them."""
    if text not in known:
        raise ConfigError(f"{option}: unknown value '{text}'; known: {', '.join(known)}")
    return text


def with_settings(
    sections: Iterable[str] = tuple(SECTIONS),
    only: Iterable[str] = (),
    defaults: Mapping[str, str] = types.MappingProxyType({}),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of a SweepConfig.

    The command gets those that stand on the command line as its first argument, a `Given`; their values are as they were typed
    and are validated with all others, by `qtablate.config.validate_config`.

    Args:
        sections: of the configuration.
        only: fields; empty: all.
        defaults: shown in help texts in place of the configuration's, by field.
    """
    chosen = {
        (section, name): option
        for (section, name), option in fields().items()
        if section in sections and (not tuple(only) or name in only)
    }

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        settings = [_parameter(place, option, defaults.get(place[1])) for place, option in chosen.items()]
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

        def run(**values: Any) -> None:
            given = {place: values.pop(_name(place)) for place in chosen}
            command({place: value for place, value in given.items() if value is not None}, **values)

        parameters = [*settings, *(one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        return run

    return decorate


def flags(given: Given) -> dict[tuple[str, str], str]:
    """The option of each setting that stands on the command line, to name it in messages."""
    return {place: option.flag for place, option in fields().items() if place in given}


def _name(place: tuple[str, str]) -> str:
    return "_".join(place)


def _parameter(place: tuple[str, str], option: Option, default: str | None) -> inspect.Parameter:
    """The parameter of a command for a setting; None where it does not stand on the command line."""
    section, name = place
    info = SECTIONS[section].model_fields[name]
    value = info.get_default(call_default_factory=True)
    help = option.help if value is False else f"{option.help} [default: {default or default_text(section, name)}]"
    types_of = set(get_args(info.annotation)) if get_origin(info.annotation) in (Union, types.UnionType) else {info.annotation}
    declared = f"{option.flag}/{option.negative}" if option.negative else option.flag
    more: dict[str, Any] = {"help": help, "show_default": False, "rich_help_panel": PANELS[section]}
    if bool in types_of:
        annotation: Any = Annotated[bool | None, typer.Option(declared, **more)]
    elif option.takes_two:
        annotation = Annotated[tuple[str, str] | None, typer.Option(declared, metavar=option.metavar, **more)]
    else:
        annotation = Annotated[
            str | None, typer.Option(declared, metavar=option.metavar or _metavar(info.annotation, types_of), **more)
        ]
    return inspect.Parameter(_name(place), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(annotation: Any, types_of: set[Any]) -> str:
    if get_origin(annotation) is tuple:
        return "A,B,..."
    for kind, name in ((int, "INTEGER"), (float, "NUMBER")):
        if kind in types_of:
            return name
    return "TEXT"


class GroupedCommand(TyperCommand):
    """A command whose help lists its options by section."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options, each under the head of its section."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)
