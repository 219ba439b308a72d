"""Labels of conditions in tables and sentences: which axes get a column, and how their levels are shown."""

from collections.abc import Sequence

import pandas as pd

from qtablate import axes
from qtablate.report.rows import Row

CONDITION = "condition"
"""What stands for the axis where whole conditions are compared."""
AXIS_LABELS = {axis.column: axis.label for axis in axes.AXES} | {"effective_batch_size": "batch", CONDITION: CONDITION}
"""Label of each axis at the head of a column."""


def shown_axes(frame: pd.DataFrame) -> list[str]:
    """Return the axes that get a column: tokens and accumulation always, others where their level varies.

    Tables of an earlier version lack the axes that it did not know.
    """
    known = [axis for axis in axes.AXES if axis.column in frame]
    varying = axes.varying_axes({axis.column: set(frame[axis.column].dropna()) for axis in known})
    return [axis.column for axis in known if axis in varying or axis in axes.HEADLINE]


def axis_labels(shown: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of these axes, the heads of the first columns of a table."""
    return tuple(AXIS_LABELS[axis] for axis in shown)


def level_labels(row: Row, shown: Sequence[str]) -> tuple[str, ...]:
    """Return a row's levels of these axes as text, incorrect ones labeled."""
    return tuple(axes.show_level(axis, row[axis]) for axis in shown)


def condition_label(row: Row, shown: Sequence[str]) -> str:
    """Name a condition in a sentence: `extra tokens 32, accum 4`."""
    return ", ".join(f"{label} {level}" for label, level in zip(axis_labels(shown), level_labels(row, shown), strict=True))


def short_label(row: Row, shown: Sequence[str]) -> str:
    """Name a condition in a column's head: `32/4`."""
    return "/".join(level_labels(row, shown))
