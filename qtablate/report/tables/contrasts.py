"""Tables of contrasts: what the data support, over all items and per task."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from qtablate.axes import show_level
from qtablate.report.contrasts import CORRECT_LEVELS, INTERACTION, MAIN, SIMPLE
from qtablate.report.families import ALL
from qtablate.report.labels import AXIS_LABELS
from qtablate.report.rows import Row, records_of
from qtablate.report.tables.cells import (
    INTERVAL,
    has_too_few,
    interval,
    plural,
    plural_range,
    too_few_note,
    verdict_text,
)
from qtablate.report.verdicts import BETTER, EQUIVALENT, ITEMS_ONLY, NOT_COMPARABLE, UNDECIDED, WORSE
from qtablate.table import TOO_FEW, Table, is_uninformative, p_text, points

NO_SEED = "no common seed"
_TASK_AXIS = "extra_num_query_tokens"
"""The axis whose contrasts are shown per task."""


def contrast_table(contrasts: pd.DataFrame) -> Table | None:
    """Return a row per contrast over all items; None without any.

    Args:
        contrasts: a row per contrast and task.
    """
    tasks = len(set(contrasts["task"]) - {ALL})
    contrasts = contrasts[contrasts["task"] == ALL]
    if contrasts.empty:
        return None
    rows = [
        (
            comparison_label(row),
            fixed_levels_label(row),
            points(row["difference"]),
            interval(row),
            p_text(row["p_holm"]),
            verdict_text(row),
            "" if row["verdict"] == NOT_COMPARABLE else _mde_text(row["mde"]),
            _needed_text(row, tasks),
        )
        for row in records_of(contrasts)
    ]
    note = f"{_contrast_note(contrasts, rows)}\nIn words: {' '.join(contrast_sentences(contrasts))}"
    columns = ("comparison", "fixed levels", "points", INTERVAL, "p", "verdict", "MDE", "needed")
    return Table("Contrasts", columns, tuple(rows), note, left=2, optional=("needed", "MDE", "p"))


def _contrast_note(contrasts: pd.DataFrame, rows: Sequence[Sequence[str]]) -> str:
    """Explain the table of contrasts, whose texts are `rows`."""
    margin = points(contrasts["margin"].iloc[0], sign=False)
    known = contrasts[contrasts["difference"].notna()] if contrasts["difference"].notna().any() else contrasts
    seeds, items, clips = (sorted({int(count) for count in known[name]}) for name in ("seeds", "n_items", "n_clusters"))
    note = (
        f"Differences of accuracy in points, paired by item and seed over {plural_range(items, 'item')} of "
        f"{plural_range(clips, 'clip')} and {plural_range(seeds, 'seed')}. Intervals: two-way clustered by clip and seed. "
        "p: adjusted (Holm) over the contrasts of one axis and kind, or over the interactions. "
        f"Equivalent: surely within ±{margin} points (--margin). MDE (minimum detectable effect): the true difference that 80 "
        f"% of all repetitions would find.{_needed_note([row[-1] for row in rows], margin)}"
        + too_few_note(text for row in rows for text in row)
    )
    if (contrasts["uncertainty"] == ITEMS_ONLY).any():
        note += " ONE SEED: the intervals hold the uncertainty of the items only, not what another seed would change."
    return note


def comparison_label(row: Row) -> str:
    """Name what a contrast compares: `extra tokens 32 - 0`."""
    label = f"{AXIS_LABELS[row['axis']]} {show_level(row['axis'], row['level'])} - {show_level(row['axis'], row['baseline'])}"
    if row["kind"] != INTERACTION:
        return label
    other = f"{AXIS_LABELS[row['other_axis']]} {show_level(row['other_axis'], row['other_level'])}"
    return f"({label}) at {other} - at {show_level(row['other_axis'], row['other_baseline'])}"


def fixed_levels_label(row: Row) -> str:
    """Name the levels of the other axes: `accum 4`, or `mean of accum 1+4`; correct levels of rules are not named."""
    parts = [part.partition("=")[::2] for part in str(row["fixed_levels"]).split("; ") if part]
    named = [(axis, level) for axis, level in parts if (axis, level) not in CORRECT_LEVELS.items()]
    return ", ".join(f"{'mean of ' if row['kind'] == MAIN else ''}{AXIS_LABELS[axis]} {level}" for axis, level in named)


def _mde_text(value: Any) -> str:
    """Format a minimum detectable effect in points."""
    return "" if pd.isna(value) else TOO_FEW if is_uninformative(value) else points(value, sign=False)


def _needed_text(row: Row, tasks: int) -> str:
    """Say how many seeds or items would decide an undecided contrast; `tasks` is 0 where it is not known."""
    if pd.isna(row["difference"]):
        return NO_SEED
    if not row["verdict"]:
        return "more clips"
    if row["verdict"] != UNDECIDED:
        return ""
    seeds = f"seeds {int(row['seeds_needed'])}" if not pd.isna(row["seeds_needed"]) else ""
    items = "" if pd.isna(row["items_needed"]) else _items_needed(int(row["items_needed"]), tasks)
    return " or ".join(filter(None, (seeds, items))) or ("more of both" if row["seeds"] > 1 else "2 seeds or more")


def _items_needed(items: int, tasks: int) -> str:
    """Format a number of items, and the option that asks for as many."""
    return f"items {items}" + (f" (--items-per-task {math.ceil(items / tasks)})" if tasks else "")


def _needed_note(texts: Sequence[str], margin: str) -> str:
    """Explain the column `needed`, as far as anything stands there."""
    if not any(texts):
        return ""
    seeds = "; seeds: number of --seeds" if any("seeds " in text for text in texts) else ""
    items = (
        "; items: in all, and as --items-per-task (as far as the benchmark has them)"
        if any("--items-per-task" in text for text in texts)
        else ""
    )
    return f" Needed: what would make a difference of {margin} points detectable{seeds}{items}."


def contrast_sentences(contrasts: pd.DataFrame) -> list[str]:
    """Say each contrast in a sentence: main effects where there are any, simple effects elsewhere, and all interactions."""
    sentences = []
    for row in records_of(contrasts[contrasts["task"] == ALL]):
        has_main = ((contrasts["kind"] == MAIN) & (contrasts["axis"] == row["axis"])).any()
        if row["kind"] in (INTERACTION, MAIN if has_main else SIMPLE):
            sentences.append(_sentence(row))
    return sentences


def _sentence(row: Row) -> str:
    """Say a contrast in a sentence."""
    label = comparison_label(row)
    fixed = f", {fixed_levels_label(row)}" if fixed_levels_label(row) else ""
    if not row["verdict"]:
        return f"{label}{fixed}: no verdict, {'all items are of one clip' if verdict_text(row) else NO_SEED}."
    if row["verdict"] == NOT_COMPARABLE:
        return f"{label}{fixed}: not comparable, the budgets of the conditions differ by more than 1 %."
    one_seed = ", one seed" if row["uncertainty"] == ITEMS_ONLY else ""
    span = interval(row) + " clips or seeds for an interval" * has_too_few(row)
    difference = f"{points(row['difference'])} points ({span}{fixed}{one_seed})"
    if row["verdict"] == EQUIVALENT:
        return f"{label}: equivalent within {points(row['margin'], sign=False)} points, {difference}."
    if row["verdict"] == UNDECIDED:
        mde = "no difference" if is_uninformative(row["mde"]) else f"{points(row['mde'], sign=False)} points"
        return f"{label}: undecided, {difference}; {mde} would have been detectable."
    return f"{label}: {row['verdict']}, {difference}."


def task_contrast_table(contrasts: pd.DataFrame) -> Table | None:
    """Return a row per task and a column per number of extra tokens, against the baseline; None without any.

    Main effects are shown where the other axes vary.

    Args:
        contrasts: a row per contrast and task.
    """
    rows = contrasts[(contrasts["axis"] == _TASK_AXIS) & (contrasts["kind"] != INTERACTION) & (contrasts["task"] != ALL)]
    shown = rows[rows["kind"] == (MAIN if (rows["kind"] == MAIN).any() else SIMPLE)]
    if shown.empty:
        return None
    levels = list(dict.fromkeys(shown["level"]))
    first, baseline = records_of(shown)[0], shown["baseline"].iloc[0]
    texts = []
    for task, group in shown.groupby("task", sort=False):
        of_level = {row["level"]: row for row in reversed(records_of(group))}  # the first of several
        texts.append((str(task), str(int(group["n_items"].iloc[0])), *(_task_text(of_level[level]) for level in levels)))
    fixed = f", {fixed_levels_label(first)}" if fixed_levels_label(first) else ""
    note = (
        f"Difference in points against {baseline} extra tokens{fixed}. ±: half of the 95 % interval. *: differs after Holm's "
        f"adjustment over {plural(len(texts), 'task')}. =: equivalent." + too_few_note(text for row in texts for text in row)
    )
    if (shown["uncertainty"] == ITEMS_ONLY).any():
        note += " ONE SEED: the intervals do not hold what another seed would change."
    columns = ("task", "n", *(f"{level} - {baseline}" for level in levels))
    return Table("Contrasts per task", columns, tuple(texts), note, left=1, optional=("n",))


def _task_text(row: Row) -> str:
    """Format a contrast on one task: `+1.2 ±3.4*`."""
    if row["verdict"] == NOT_COMPARABLE:
        return NOT_COMPARABLE
    if pd.isna(row["difference"]):
        return NO_SEED
    difference = points(row["difference"])
    if has_too_few(row):
        return f"{difference} ({TOO_FEW})"
    mark = {BETTER: "*", WORSE: "*", EQUIVALENT: "="}.get(str(row["verdict"]), " ")
    return f"{difference} ±{points((row['ci_high'] - row['ci_low']) / 2, sign=False)}{mark}"
