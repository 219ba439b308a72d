"""Rows of frames as plain dicts."""

from typing import Any

import pandas as pd

Row = dict[str, Any]
"""A row of a frame by column name; a missing figure is nan or None."""


def records_of(frame: pd.DataFrame) -> list[Row]:
    """Return the rows of a frame."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
