"""What the user sets in environment variables."""

import math
import os

from qtablate.errors import QtablateError


def number(variable: str, default: float, unit: str, above: bool = False) -> float:
    """Return the number in an environment variable, or the default where it is unset or empty.

    Args:
        unit: named in the message.
        above: the number must be more than 0, not only at least 0.

    Raises:
        QtablateError: the variable holds anything else.
    """
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0 and not (above and value == 0)):
        bound = "more than 0" if above else "at least 0"
        raise QtablateError(
            f"{variable}: expected a number of {unit}, {bound}, got '{text}'; correct it, or unset it ({default:g})"
        )
    return value


def switch(variable: str, default: bool) -> bool:
    """Return what an environment variable says, `on` or `off`, or the default where it is unset or empty.

    Raises:
        QtablateError: the variable holds anything else.
    """
    text = os.environ.get(variable, "").strip().lower()
    if text not in ("", "on", "off"):
        raise QtablateError(f"{variable}: expected on or off, got '{text}'; correct it, or unset it")
    return default if not text else text == "on"
