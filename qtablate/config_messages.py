"""What is wrong with a configuration, in this project's words: pydantic's errors with what was expected and what came."""

import difflib
import math
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel

Sections = Mapping[str, type[BaseModel]]
"""The sections of a configuration by name."""


def describe(error: Mapping[str, Any], sections: Sections, named: Mapping[tuple[str, str], str], where: str = "") -> str:
    """Say what is wrong with a setting.

    Args:
        error: one of pydantic's.
        sections: of the configuration.
        named: the option of each setting that came from the command line, by section and field.
        where: the file that the other settings came from.
    """
    section, name, *_ = (*map(str, error["loc"]), "", "")
    option = named.get((section, name))
    place = option or ".".join(map(str, error["loc"]))
    if where and not option:
        place = f"{where}: {place}" if place else where
    reason = (error.get("ctx") or {}).get("error")
    if reason is not None:
        text = str(reason)
        return text if text.startswith("--") and not where else f"{place}: {text}"  # some name their options themselves
    if error["type"] == "extra_forbidden":
        known = list(sections[section].model_fields) if name and section in sections else list(sections)
        close = difflib.get_close_matches(name or section, known, 1)
        hint = f"did you mean '{close[0]}'? " if close else ""
        return f"{place}: unknown setting; {hint}known: {', '.join(known)}"
    if error["type"] == "missing":
        return f"{place}: expected a value, got none"
    value = error["input"]
    expected = _expected(error, sections.get(section), name)
    return f"{place}: expected {expected}, got {value if isinstance(value, str) else repr(value)}"


def _expected(error: Mapping[str, Any], section: type[BaseModel] | None, name: str) -> str:
    """What a setting takes, in words, from its type and bounds."""
    if error["type"] == "literal_error":
        return f"one of {error['ctx']['expected'].replace(chr(39), '')}"
    if error["type"].startswith("bool"):
        return "true or false"
    info = section.model_fields.get(name) if section else None
    if info is None:
        return "settings by name"
    bounds = {
        key: getattr(one, key)
        for one in info.metadata
        for key in ("gt", "ge", "lt", "le")
        if getattr(one, key, None) is not None
    }
    types = get_args(info.annotation) or (info.annotation,)
    if int in types:
        return f"a whole number of {bounds['ge']} or more" if "ge" in bounds else "a whole number"
    return number_words(bounds) if float in types else f"another value ({error['msg']})"


def number_words(bounds: Mapping[str, float]) -> str:
    """`number from 0 to 1`, `positive number`, ...: what a field with these bounds takes."""
    if "le" in bounds:
        return f"a number from {bounds['ge']:g} to {bounds['le']:g}"
    if "lt" in bounds:
        return f"a number from {bounds['ge']:g} to below {bounds['lt']:g}"
    if bounds.get("gt") == 0:
        return "a positive number"
    least = bounds.get("ge", -math.inf)
    return f"a finite number of {least:g} or more" if math.isfinite(least) else "a finite number"
