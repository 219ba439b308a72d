"""Read and write the tables of a results folder as CSV. A missing figure is an empty field."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from qtablate.errors import StoreError
from qtablate.report.rows import Row
from qtablate.store import Store, rows_text

TEXT_COLUMNS = (
    "incorrect",
    "error",
    "software",
    "host",
    "extra_state",
    "equivalent_to_best",
    "fixed_levels",
    "other_axis",
    "uncertainty",
    "verdict",
    "outcome",
    "same_as",
    "predicted_letters",
    "gold_letters",
    "role",
    "fresh_seeds",
    "keys",
    "item",
    "task",
    "group",
)
"""Columns of text: an empty field is an empty text there, not a missing figure."""


def read_table(store: Store, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Read a table as it was written; empty where there is no such file.

    Args:
        store: the results folder.
        name: of the file, without `.csv`.
        columns: the columns to return first; those that the file lacks hold missing values.

    Raises:
        StoreError: the file is not a table.
    """
    path = store.table_file(f"{name}.csv")
    try:
        frame = pd.read_csv(path, keep_default_na=False, na_values=[""], dtype={"item": str, "task": str})
    except FileNotFoundError:
        return pd.DataFrame(columns=list(columns))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): run the sweep again") from None
    frame = frame.reindex(columns=[*columns, *(column for column in frame.columns if column not in columns)])
    for column in set(TEXT_COLUMNS) & set(frame.columns):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), "")
    return frame


def write_table(store: Store, name: str, frame: pd.DataFrame) -> Path:
    """Write a table as `name`.csv and return its path. Raises StoreError."""
    path = store.table_file(f"{name}.csv")
    store.write_rows(path, _rows(frame), list(frame.columns))
    return path


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as `write_table` writes it."""
    return rows_text(_rows(frame), list(frame.columns))


def _rows(frame: pd.DataFrame) -> list[Row]:
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(column): _integral(value) for column, value in row.items()} for row in rows]


def _integral(value: Any) -> Any:
    """Turn a float without a fraction into an int: `8`, not `8.0`."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
