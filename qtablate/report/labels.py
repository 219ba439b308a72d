"""Labels of conditions in tables and sentences: which axes get a column, and how their levels are shown."""

from collections.abc import Sequence

import pandas as pd

from qtablate import axes
from qtablate.report.rows import Row

AXIS_LABELS = {axis.name: axis.short for axis in axes.AXES} | {"effective_batch_size": "batch"}
"""Label of each axis at the head of a column."""
_ALWAYS_SHOWN = ("extra_num_query_tokens", "accumulate_grad_batches")


def shown_axes(frame: pd.DataFrame) -> list[str]:
    """Return the axes that get a column: tokens and accumulation always, others where their level varies."""
    levels = {axis.name: set(frame[axis.name].dropna()) - {axis.absent} for axis in axes.AXES}
    return [name for name, values in levels.items() if len(values) > 1 or name in _ALWAYS_SHOWN]


def axis_labels(shown: Sequence[str]) -> tuple[str, ...]:
    """Return the labels of these axes, the heads of the first columns of a table."""
    return tuple(AXIS_LABELS[axis] for axis in shown)


def level_labels(row: Row, shown: Sequence[str]) -> tuple[str, ...]:
    """Return a row's levels of these axes as text, incorrect ones labeled."""
    return tuple(axes.told(axis, row[axis]) for axis in shown)


def condition_label(row: Row, shown: Sequence[str]) -> str:
    """Name a condition in a sentence: `extra tokens 32, accum 4`."""
    return ", ".join(f"{label} {level}" for label, level in zip(axis_labels(shown), level_labels(row, shown), strict=True))


def short_label(row: Row, shown: Sequence[str]) -> str:
    """Name a condition in a column's head: `32/4`."""
    return "/".join(level_labels(row, shown))
