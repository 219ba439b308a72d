"""How one setting of a configuration is declared: its option on the command line, and how its text is parsed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationInfo, field_validator

from qtablate.axes import Axis, parse_number


@dataclass(frozen=True, slots=True)
class Option:
    """How a setting is given on the command line."""

    flag: str
    help: str
    metavar: str = ""
    negative: str = ""
    """The flag that turns a switch off, where there is one."""
    default: str = ""
    """What stands for the default in help texts, where the value alone would not say it."""

    @property
    def takes_two(self) -> bool:
        """Whether two words follow the flag, as the metavar names both."""
        return " " in self.metavar


class Section(BaseModel):
    """A group of settings: frozen, with no field but those that are declared."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, validate_default=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads yes, on and true as a boolean, which would pass as the number 1."""
        annotation = cls.model_fields[info.field_name].annotation if info.field_name else bool
        if isinstance(value, bool) and annotation is not bool and bool not in get_args(annotation):
            raise ValueError(f"expected a value, got {str(value).lower()}")
        return value


def _parse_names(value: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    return Axis("", "", "", (known[0],), names=known).parse(value)  # type: ignore[return-value]


def comma_list(literal: Any, may_be_empty: bool = False) -> BeforeValidator:
    """Names out of a Literal, as a comma list or a sequence; `all` is all of them."""
    known = get_args(literal)

    def parse(value: Any) -> tuple[str, ...]:
        if value in ("all", ["all"]):
            return known
        return () if may_be_empty and value in ([], ()) else _parse_names(value, known)

    return BeforeValidator(parse)


def parse_positive_numbers(value: Any) -> Any:
    """Positive numbers, as a comma list or a sequence; empty text is none."""
    if isinstance(value, (int, float)):
        value = [value]
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")] if value.strip() else []
    return [parse_number(part, None, 0, None) for part in value] if isinstance(value, (list, tuple)) else value


def parse_parameters(value: Any) -> Any:
    """`name=value` pairs, as a comma list, a sequence or a mapping; a comma within a value is one that no `name=` follows."""
    if isinstance(value, str):
        value = re.split(r",(?=[\w-]+=)", value) if value.strip() else []
    if isinstance(value, Mapping):
        value = [f"{name}={one}" for name, one in value.items()]
    for one in value if isinstance(value, (list, tuple)) else ():
        if not re.fullmatch(r"[\w-]+=.+", str(one)):
            raise ValueError(f"expected name=value, got '{one}'")
    return [str(one).strip() for one in value] if isinstance(value, (list, tuple)) else value


def named_folder(value: Any) -> Any:
    """A path; an empty text, which would be the current folder, is refused."""
    if isinstance(value, str) and not value.strip():
        raise ValueError("expected the name of a folder, got an empty text; leave it out for the default")
    return value
