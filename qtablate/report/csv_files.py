"""Read and write the tables of a results folder as CSV. A missing figure is an empty field."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtablate.errors import StoreError
from qtablate.store import Store

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
    store.write_file(path, csv_text(frame))
    return path


def csv_text(frame: pd.DataFrame) -> str:
    """Return a table as `write_table` writes it: whole numbers as `8`, not `8.0`, and others with ten digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(frame.columns)
    # column by column: a dictionary of each row of a large table takes several times as long
    writer.writerows(zip(*(_fields(column) for _, column in frame.items()), strict=True))
    return buffer.getvalue()


def _fields(column: "pd.Series[Any]") -> list[object]:
    """Return what stands in a column; nothing where a figure is missing."""
    if column.dtype == np.float64:
        floats = column.tolist()
        return ["" if value != value else int(value) if value.is_integer() else f"{value:.10g}" for value in floats]
    values, missing = column.to_numpy(object).tolist(), column.isna().tolist()
    return ["" if nothing else _field(value) for value, nothing in zip(values, missing, strict=True)]


def _field(value: object) -> object:
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, float):
        return int(value) if value.is_integer() else f"{value:.10g}"
    return value
