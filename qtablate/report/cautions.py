"""What the reader of a report has to beware of: too little data, unequal seeds, one learning rate, runs that are identical."""

import textwrap
from collections import Counter

import numpy as np
import pandas as pd

from qtablate.records import NOT_NEEDED
from qtablate.report.answers import ACCURACY
from qtablate.report.families import ALL
from qtablate.report.labels import AXIS_LABELS, condition_label, shown_axes
from qtablate.report.recommendation import above_chance
from qtablate.report.rows import records_of
from qtablate.report.sentences import comparison_label, contrast_sentence
from qtablate.report.tables.cells import plural
from qtablate.report.verdicts import IDENTICAL, ITEMS_ONLY
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.distributions import bartlett_p
from qtablate.table import number, points

UNEQUAL = 0.05
"""p of Bartlett's test below which the report warns that conditions differ in how much their seeds vary."""
FEW_CLIPS = 0.5
"""Share of its clips below which the effective number of clips is worth a warning."""
COARSE = 0.1
"""A sweep that reliably detects no smaller difference than this has too few items or seeds to be worth reading."""


def cautions(cells: pd.DataFrame, summary: pd.DataFrame, contrasts: pd.DataFrame) -> list[str]:
    """Say what to beware of, a sentence each, the most serious first.

    Args:
        cells: a row per cell.
        summary: a row per condition.
        contrasts: a row per outcome, contrast and task.
    """
    done = summary[summary["seeds_done"] > 0]
    found = [
        _unfinished(cells),
        _not_above_chance(done),
        _few_seeds(done, contrasts),
        _coarse(contrasts),
        _unequal_seeds(cells),
        _in_parts(cells),
        _few_clips(contrasts),
        _one_learning_rate(done),
        *_identical(contrasts),
    ]
    return [warning + "." for warning in found if warning]


def _unfinished(cells: pd.DataFrame) -> str:
    missing = int((~cells["status"].isin(("ok", NOT_NEEDED))).sum())
    if not missing:
        return ""
    failed = records_of(cells[cells["status"] == "failed"])
    errors = Counter(str(cell["error"]).partition("\n")[0] for cell in failed)
    text = f"{missing} of {len(cells)} cells have not finished"
    if not errors:
        return text
    error, count = errors.most_common(1)[0]
    others = f" and {plural(len(errors) - 1, 'other error')}" if len(errors) > 1 else ""
    known = f"{count} with '{textwrap.shorten(error, 100)}'{others}"
    return f"{text}; {errors.total()} failed: {known} (section conditions)"


def _not_above_chance(done: pd.DataFrame) -> str:
    below = [row for row in records_of(done) if not above_chance(row)]
    if not below or len(below) == len(done) or done["n_clusters"].max() < MIN_CLIPS:
        return ""
    shown = shown_axes(done)
    names = "; ".join(condition_label(row, shown) for row in below[:3]) + (" and others" if len(below) > 3 else "")
    return f"{len(below)} of {len(done)} conditions are not above chance and their blind control: {names}"


def _few_seeds(done: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    if (contrasts["uncertainty"] == ITEMS_ONLY).any():
        return "one seed: the intervals hold the uncertainty of the items only, not what another seed would change"
    if done["seeds_done"].min() == 2:
        return "two seeds say little of how much seeds vary: intervals of conditions that vary more than others are too narrow"
    return ""


def _coarse(contrasts: pd.DataFrame) -> str:
    primary = contrasts["primary"].astype(bool) & (contrasts["task"] == ALL) & (contrasts["outcome"] == ACCURACY)
    effects = contrasts.loc[primary, "mde"].astype(float)
    if not len(effects) or not effects.notna().any() or effects.min() <= COARSE:
        return ""
    return (
        f"too few items or seeds: no difference below {points(min(effects.min(), 1.0), sign=False)} points could have been seen"
    )


def _unequal_seeds(cells: pd.DataFrame) -> str:
    """Warn where conditions differ in how much their seeds vary (Bartlett's test)."""
    done = cells[(cells["status"] == "ok") & (cells["incorrect"] == "")]
    axes_ = [axis for axis in AXIS_LABELS if axis in done]
    groups = [group["accuracy"].astype(float) for _, group in done.groupby(axes_, sort=False) if len(group) > 1]
    deviations = [float(group.std(ddof=1)) for group in groups]
    groups = [group for group, deviation in zip(groups, deviations, strict=True) if deviation > 0]
    if len(groups) < 2:
        return ""
    p = bartlett_p([np.asarray(group, np.float64) for group in groups])
    if p >= UNEQUAL:
        return ""
    return (
        f"conditions differ in how much their seeds vary (seed sd {points(min(deviations), sign=False)} to "
        f"{points(max(deviations), sign=False)} points, Bartlett p = {p:.2g}): differences of those that vary most have wide "
        "intervals, which more seeds would narrow"
    )


def _in_parts(cells: pd.DataFrame) -> str:
    """Warn of cells that trained with their micro-batches in parts, for want of memory."""
    parts = cells.loc[cells["status"] == "ok", "micro_batch_parts"].dropna().astype(int)
    parts = parts[parts > 1]
    if parts.empty:
        return ""
    number_of_parts = " or ".join(map(str, sorted(parts.unique())))
    return (
        f"{plural(len(parts), 'cell')} ran with micro-batches computed in {number_of_parts} parts after running out of memory: "
        "the same gradients to rounding"
    )


def _few_clips(contrasts: pd.DataFrame) -> str:
    known = contrasts[(contrasts["task"] == ALL) & contrasts["effective_clusters"].notna()]
    if known.empty:
        return ""
    row = records_of(known.sort_values("effective_clusters", kind="stable"))[0]
    if row["effective_clusters"] >= FEW_CLIPS * row["n_clusters"]:
        return ""
    return (
        f"few clips hold many of the items: {number(row['n_items'])} items of {number(row['n_clusters'])} clips tell as much "
        f"of other clips as {number(row['effective_clusters'])} clips of one size would"
    )


def _one_learning_rate(done: pd.DataFrame) -> str:
    if done["effective_batch_size"].nunique() < 2 or done["peak_learning_rate"].nunique() > 1:
        return ""
    batches = " and ".join(str(int(batch)) for batch in sorted(done["effective_batch_size"].unique()))
    return (
        f"one learning rate ({done['peak_learning_rate'].iloc[0]:g}) for effective batches of {batches}: what is said of "
        "accumulation and batch holds at this rate"
    )


def _identical(contrasts: pd.DataFrame) -> list[str]:
    shown = records_of(contrasts[(contrasts["task"] == ALL) & (contrasts["outcome"] == ACCURACY)])
    return [
        *(contrast_sentence(row).rstrip(".") for row in shown if row["verdict"] == IDENTICAL),
        *(
            f"{comparison_label(row)} and {row['same_as']} compare the same runs (equal losses at every step) and count once"
            for row in shown
            if row["primary"] and not pd.isna(row["same_as"]) and row["same_as"]
        ),
    ]
