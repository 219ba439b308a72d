"""Items one by one: which conditions answer an item, and where they disagree."""

import pandas as pd

from qtablate.report.answers import Answers, Condition
from qtablate.report.labels import short_label, shown_axes
from qtablate.report.rows import Row, records_of

RIGHT, WRONG, DISAGREE = "right under all", "wrong under all", "conditions disagree"
"""Groups of items."""
MAJORITY = 0.5
"""A condition answers an item where more than this share of its seeds does."""


COLUMNS = ("item", "task", "group")
"""Of the frame of items, before a column per condition."""


def labels_of(answers: Answers, cells: pd.DataFrame) -> dict[Condition, str]:
    """Return the short label of every condition that has finished cells, such as `32/4`: its levels of the axes that vary.

    Args:
        answers: of the finished cells.
        cells: a row per cell, whose axes the label names.
    """
    shown = shown_axes(cells)
    labels = {tuple(row[axis] for axis in answers.axes): short_label(row, shown) for row in records_of(cells)}
    return {condition: labels[condition] for condition in answers.conditions}


def shares_correct(answers: Answers, condition: Condition) -> "pd.Series[float]":
    """Return, for each item, the share of a condition's seeds that answer it."""
    seeds = answers.seeds_of(condition)
    return pd.Series(sum(answers.correct[condition, seed] for seed in seeds) / len(seeds), dtype=float)


def item_frame(answers: Answers, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per item: its task, its group, and the share of seeds that answer it under each condition.

    Args:
        answers: of the finished cells.
        cells: a row per cell.
    """
    shares = pd.DataFrame({label: shares_correct(answers, one) for one, label in labels_of(answers, cells).items()})
    right = (shares > MAJORITY).sum(axis=1) if len(shares.columns) else pd.Series(dtype=float)
    group = pd.Series(DISAGREE, shares.index).mask(right == len(shares.columns), RIGHT).mask(right == 0, WRONG)
    named = pd.DataFrame(dict(zip(COLUMNS, (answers.items, answers.tasks, group), strict=True)))
    return pd.concat([named, shares], axis=1)


def group_counts(items: pd.DataFrame) -> list[Row]:
    """Return a row per task, and one for all: the number of items of every group."""
    rows = []
    for task, group in [*items.groupby("task", sort=False), ("all", items)]:
        counts = group["group"].value_counts()
        rows.append(
            {"task": str(task), "n": len(group)} | {name: int(counts.get(name, 0)) for name in (RIGHT, DISAGREE, WRONG)}
        )
    return rows
