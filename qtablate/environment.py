"""Numbers that the user sets in environment variables."""

import math
import os

from qtablate.errors import QtablateError


def number(variable: str, default: float, unit: str, above: bool = False) -> float:
    """The number in an environment variable, or the default where it is unset or empty. Raises QtablateError for anything but a
    finite number of at least 0, or `above` it."""
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
            f"{variable}: expected a number of {unit}, {bound}, got '{text}'; mend it, or unset it ({default:g})"
        )
    return value
