"""How tables name a condition: which axes get a column, and what stands in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from qtablate import axes

NAMES = {axis.name: axis.short for axis in axes.AXES} | {"effective_batch_size": "batch"}


def shown_axes(table: pd.DataFrame) -> list[str]:
    """The axes worth a column: tokens and accumulation always, others where they vary."""
    levels = {axis.name: set(table[axis.name].dropna()) - {axis.absent} for axis in axes.AXES}
    return [axis.name for place, axis in enumerate(axes.AXES) if len(levels[axis.name]) > 1 or place < 2]


def levels_of(row: Mapping[str, Any], shown: Sequence[str]) -> tuple[str, ...]:
    """The first cells of a row: its levels, incorrect ones labelled."""
    return tuple(axes.told(axis, row[axis]) for axis in shown)


def named(row: Mapping[str, Any], shown: Sequence[str]) -> list[str]:
    """Each level behind its axis, for a sentence."""
    return [f"{NAMES[axis]} {level}" for axis, level in zip(shown, levels_of(row, shown), strict=True)]


def heads(shown: Sequence[str]) -> tuple[str, ...]:
    return tuple(NAMES[axis] for axis in shown)
