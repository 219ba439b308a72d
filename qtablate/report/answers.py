"""The answers of all finished cells as arrays of correct (1) and incorrect (0), for contrasts between conditions."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate import axes
from qtablate.axes import Level
from qtablate.controls import FULL
from qtablate.records import SweepFile
from qtablate.report.folder import AXES, BUDGET_COLUMNS
from qtablate.report.frames import answer_frame
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

Condition = tuple[Level, ...]
"""Levels of a condition in the order of the axes."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Correct and incorrect answers of all finished cells to the same items."""

    axes: tuple[str, ...]
    """Names of the axes, in the order of a condition's levels."""
    correct: Mapping[tuple[Condition, int], Floats]
    """(condition, seed) -> (items,) of 1 and 0."""
    clips: NDArray[np.int64]
    """(items,): number of each item's clip."""
    tasks: NDArray[np.str_]
    """(items,): task of each item."""
    items: NDArray[np.str_]
    """(items,): name of each item. Items that not every cell has answered are left out."""
    reference_batch: int = 0
    """Effective batch size that the learning rate is meant for."""
    budgets: Mapping[Condition, float] = field(default_factory=dict)
    """Budget that a condition's cells used, mean over seeds."""

    def levels(self, condition: Condition) -> dict[str, Level]:
        """Return the levels of a condition by axis."""
        return dict(zip(self.axes, condition, strict=True))

    def inactive(self, condition: Condition) -> set[str]:
        """Return the axes that have no effect in a condition, whatever level stands there."""
        return axes.inactive_axes(self.levels(condition), self.reference_batch)

    @property
    def conditions(self) -> list[Condition]:
        """The conditions that have a finished cell, in the order of the cells."""
        return list(dict.fromkeys(condition for condition, _ in self.correct))

    def is_incorrect(self, condition: Condition) -> bool:
        """Whether a condition breaks a rule of accumulation."""
        return bool(axes.incorrect_levels(self.levels(condition)))

    def run_of(self, condition: Condition) -> Condition:
        """Return the same value for conditions that are one run but for rounding.

        Those split one effective batch in different ways (batch_split_check.py).
        """
        levels = self.levels(condition)
        if levels["mixing"] != "mixed" or self.is_incorrect(condition):
            return condition
        split = {*axes.SPLIT, "effective_batch_size"}
        return (axes.effective_batch_size(levels), *(level for axis, level in levels.items() if axis not in split))

    def seeds_of(self, condition: Condition) -> list[int]:
        """Return the seeds with which a condition has finished."""
        return [seed for finished, seed in self.correct if finished == condition]


def axes_of(batch_size_is: str) -> tuple[str, ...]:
    """Return the axes that vary one at a time.

    Args:
        batch_size_is: `effective-batch` where each batch is split into micro-batches, whose size follows from the accumulation.
    """
    return tuple(
        "effective_batch_size" if batch_size_is == "effective-batch" and axis == "micro_batch_size" else axis for axis in AXES
    )


def read_answers(store: Store, cells: pd.DataFrame, sweep: SweepFile) -> Answers:
    """Read the answers of the finished cells of a folder.

    Args:
        store: the results folder.
        cells: its frame of cells.
        sweep: its sweep.json.
    """
    names = axes_of(sweep.config.grid.batch_size_is)
    done = cells[cells["status"] == "ok"]
    answers = answer_frame(store, list(done["key"]))
    if answers.empty:
        return Answers(names, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    answers = answers[answers["control"] == FULL]
    correct = answers.pivot(index=["item", "cluster", "task"], columns="key", values="correct")
    correct = correct.dropna().reindex(answers["item"].unique(), level="item")  # in the order of the answers
    cell_of = {str(row["key"]): (tuple(row[axis] for axis in names), int(row["seed"])) for _, row in done.iterrows()}
    used: dict[Condition, list[float]] = {}
    for key, amount in zip(done["key"], done[BUDGET_COLUMNS[sweep.settings.budget]], strict=True):
        used.setdefault(cell_of[str(key)][0], []).append(float(amount))
    index = correct.index
    return Answers(
        names,
        {cell_of[str(key)]: correct[key].to_numpy(np.float64) for key in done["key"]},
        pd.factorize(index.get_level_values("cluster"))[0].astype(np.int64),
        index.get_level_values("task").to_numpy(dtype=np.str_),
        index.get_level_values("item").to_numpy(dtype=np.str_),
        sweep.reference_batch,
        {condition: sum(amounts) / len(amounts) for condition, amounts in used.items()},
    )
