"""The answers of all finished cells as arrays, for contrasts between conditions: correct or not, and how likely they were."""

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
from qtablate.report.identical_runs import identical_runs
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

Condition = tuple[Level, ...]
"""Levels of a condition in the order of the axes."""
Values = Mapping[tuple[Condition, int], Floats]
"""(condition, seed) -> (items,): a measure of every answer of a cell."""

ACCURACY, PROBABILITY, LOG_MARGIN = "accuracy", "probability", "log_margin"
"""Outcomes: whether the answer is correct; the probability of the correct option among the item's options; and its
log-likelihood minus that of the likeliest incorrect option, in nats."""


@dataclass(frozen=True, slots=True)
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
    likelihoods = _likelihoods(answers, correct, cell_of)
    correct_of = {cell_of[str(key)]: correct[key].to_numpy(np.float64) for key in done["key"]}
    return Answers(
        names,
        correct_of,
        pd.factorize(index.get_level_values("cluster"))[0].astype(np.int64),
        index.get_level_values("task").to_numpy(dtype=np.str_),
        index.get_level_values("item").to_numpy(dtype=np.str_),
        sweep.reference_batch,
        {condition: sum(amounts) / len(amounts) for condition, amounts in used.items()},
        {cell: values[:, 0] for cell, values in likelihoods.items()},
        {cell: values[:, 1] for cell, values in likelihoods.items()},
        identical_runs({cell_of[str(key)]: (_losses(store, str(key)), correct_of[cell_of[str(key)]]) for key in done["key"]}),
    )


def _likelihoods(
    answers: pd.DataFrame, correct: pd.DataFrame, cell_of: Mapping[str, tuple[Condition, int]]
) -> dict[tuple[Condition, int], Floats]:
    """Return, for each cell, the probability and the log margin of the correct option: (items, 2).

    Args:
        answers: a row per cell and item.
        correct: a row per item that every cell has answered, a column per cell.
        cell_of: condition and seed of each key.

    Returns:
        Empty where an answer has no scores of its options, as generated ones.
    """
    texts = answers["scores"].astype(str)
    if not texts.str.contains(";").all():
        return {}
    of_item = pd.DataFrame(
        _of_correct_option(texts.to_numpy(), answers["gold"].to_numpy(np.int64)),
        pd.MultiIndex.from_frame(answers[["key", "item"]]),
    )
    items = correct.index.get_level_values("item")
    return {cell_of[str(key)]: of_item.loc[key].loc[items].to_numpy(np.float64) for key in correct.columns}


def _of_correct_option(scores: NDArray[np.object_], gold: NDArray[np.int64]) -> Floats:
    """Return the probability of the correct option, and how far it is ahead of the likeliest other one in nats: (answers, 2).

    Args:
        scores: of each answer's options, joined by semicolons.
        gold: number of the correct option.
    """
    out = np.empty((len(scores), 2))
    counts = np.array([text.count(";") + 1 for text in scores])
    for count in np.unique(counts):  # answers with equally many options at once
        rows = np.flatnonzero(counts == count)
        values = np.array(";".join(scores[rows]).split(";"), dtype=np.float64).reshape(-1, count)
        correct = np.take_along_axis(values, gold[rows, None], axis=1)[:, 0]
        out[rows, 0] = np.exp(correct - np.logaddexp.reduce(values, axis=1))
        np.put_along_axis(values, gold[rows, None], -np.inf, axis=1)
        out[rows, 1] = correct - values.max(axis=1)
    return out


def _losses(store: Store, key: str) -> Floats:
    """Return the training losses of a cell, one a step."""
    return pd.read_csv(store.cell_file(key, "train.csv"), usecols=["loss"])["loss"].to_numpy(np.float64)
