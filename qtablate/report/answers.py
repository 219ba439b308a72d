"""The answers of all finished cells as arrays, for contrasts between conditions: correct or not, and how likely they were."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate import axes
from qtablate.axes import Level
from qtablate.controls import FULL
from qtablate.records import SweepFile
from qtablate.report.cell_answers import common_items, correct_option_measures, read_cell_answers
from qtablate.report.folder import AXES, BUDGET_COLUMNS
from qtablate.report.identical_runs import identical_runs
from qtablate.report.steps import read_losses
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

Condition = tuple[Level, ...]
"""Levels of a condition in the order of the axes."""
Values = Mapping[tuple[Condition, int], Floats]
"""(condition, seed) -> (items,): a measure of every answer of a cell."""

_REMEMBERED = 4096
"""Conditions of which is remembered what follows from their levels: thousands of contrasts ask for it."""

ACCURACY, PROBABILITY, LOG_MARGIN = "accuracy", "probability", "log_margin"
"""Outcomes: whether the answer is correct; the probability of the correct option among the item's options; and its
log-likelihood minus that of the likeliest incorrect option, in nats."""


@dataclass(frozen=True)
class Answers:
    """Correct and incorrect answers of all finished cells to the same items."""

    axes: tuple[str, ...]
    """Names of the axes, in the order of a condition's levels."""
    correct: Values
    """1 and 0 for every item."""
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
    probability: Values = field(default_factory=dict)
    """Of the correct option; empty where a scorer gives no likelihoods."""
    log_margin: Values = field(default_factory=dict)
    identical: Mapping[Condition, Condition] = field(default_factory=dict)
    """Conditions that are the same run as an earlier one, and that one (identical_runs.py)."""
    planned_seeds: tuple[int, ...] = ()
    """All seeds of the grid in their order, where seeds are added until contrasts are decided; empty where all are run."""

    def values(self, outcome: str) -> Values:
        """Return a measure of every answer: ACCURACY, PROBABILITY or LOG_MARGIN."""
        return {ACCURACY: self.correct, PROBABILITY: self.probability, LOG_MARGIN: self.log_margin}[outcome]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The outcomes that these cells have, the accuracy first."""
        return (ACCURACY, PROBABILITY, LOG_MARGIN) if self.probability else (ACCURACY,)

    def levels(self, condition: Condition) -> dict[str, Level]:
        """Return the levels of a condition by axis."""
        return dict(zip(self.axes, condition, strict=True))

    def inactive(self, condition: Condition) -> frozenset[str]:
        """Return the axes that have no effect in a condition, whatever level stands there."""
        return _inactive(self.axes, condition, self.reference_batch)

    @cached_property
    def conditions(self) -> list[Condition]:
        """The conditions that have a finished cell, in the order of the cells."""
        return list(dict.fromkeys(condition for condition, _ in self.correct))

    @cached_property
    def _seeds(self) -> dict[Condition, list[int]]:
        seeds: dict[Condition, list[int]] = {}
        for condition, seed in self.correct:
            seeds.setdefault(condition, []).append(seed)
        return seeds

    @cached_property
    def places(self) -> dict[Condition, int]:
        """The place of each condition among the conditions."""
        return {condition: place for place, condition in enumerate(self.conditions)}

    @cached_property
    def scaled_levels(self) -> dict[str, set[Level]]:
        """The levels that the conditions have of each axis that depends on the reference batch size."""
        columns = [axis.column for axis in axes.AXES if axis.scaled_levels and axis.column in self.axes]
        places = {column: self.axes.index(column) for column in columns}
        return {column: {condition[place] for condition in self.conditions} for column, place in places.items()}

    def is_incorrect(self, condition: Condition) -> bool:
        """Whether a condition breaks a rule of accumulation."""
        return _is_incorrect(self.axes, condition)

    def run_of(self, condition: Condition) -> Condition:
        """Return the same value for conditions that are one run but for rounding.

        Those have the same losses (identical_runs.py), or split one effective batch in different ways (batch_split_check.py).
        """
        condition = self.identical.get(condition, condition)
        levels = self.levels(condition)
        if levels["mixing"] != "mixed" or self.is_incorrect(condition):
            return condition
        split = {*axes.SPLIT, "effective_batch_size"}
        return (axes.effective_batch_size(levels), *(level for axis, level in levels.items() if axis not in split))

    def seeds_of(self, condition: Condition) -> list[int]:
        """Return the seeds with which a condition has finished."""
        return self._seeds.get(condition, [])


@lru_cache(_REMEMBERED)
def _is_incorrect(names: tuple[str, ...], condition: Condition) -> bool:
    return bool(axes.incorrect_levels(dict(zip(names, condition, strict=True))))


@lru_cache(_REMEMBERED)
def _inactive(names: tuple[str, ...], condition: Condition, reference_batch: int) -> frozenset[str]:
    return frozenset(axes.inactive_axes(dict(zip(names, condition, strict=True)), reference_batch))


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
    keys = [str(key) for key in done["key"]]
    read = {key: read_cell_answers(store, key) for key in keys}
    if not read:
        return Answers(names, {}, np.zeros(0, np.int64), np.zeros(0, np.str_), np.zeros(0, np.str_))
    first, items = read[keys[0]], common_items(list(read.values()))
    cell_of = {str(row["key"]): (tuple(row[axis] for axis in names), int(row["seed"])) for _, row in done.iterrows()}
    used: dict[Condition, list[float]] = {}
    for key, amount in zip(keys, done[BUDGET_COLUMNS[sweep.settings.budget]], strict=True):
        used.setdefault(cell_of[key][0], []).append(float(amount))
    places = {key: answers.places(items) for key, answers in read.items()}
    scored = all(answers.scores.shape[1] for answers in read.values())
    measures = {key: correct_option_measures(read[key])[places[key]] for key in keys if scored}
    correct_of = {cell_of[key]: read[key].correct[FULL][places[key]].astype(np.float64) for key in keys}
    return Answers(
        names,
        correct_of,
        pd.factorize(first.clusters[places[keys[0]]])[0].astype(np.int64),
        first.tasks[places[keys[0]]].astype(np.str_),
        items.astype(np.str_),
        sweep.reference_batch,
        {condition: sum(amounts) / len(amounts) for condition, amounts in used.items()},
        {cell_of[key]: values[:, 0] for key, values in measures.items()},
        {cell_of[key]: values[:, 1] for key, values in measures.items()},
        identical_runs({cell_of[key]: (read_losses(store, key), correct_of[cell_of[key]]) for key in keys}),
        sweep.planned_seeds,
    )
