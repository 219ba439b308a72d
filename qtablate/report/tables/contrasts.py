"""Tables of contrasts: what the data support, over all items and per task."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from qtablate.report.answers import ACCURACY, PROBABILITY
from qtablate.report.contrasts import INTERACTION, MAIN, SIMPLE
from qtablate.report.families import ALL
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import NO_SEED, comparison_label, contrast_sentence, fixed_levels_label
from qtablate.report.tables.cells import INTERVAL, has_too_few, interval, plural, plural_range, too_few_note, verdict_text
from qtablate.report.verdicts import BETTER, EQUIVALENT, IDENTICAL, ITEMS_ONLY, NOT_COMPARABLE, UNDECIDED, WORSE
from qtablate.statistics.power import MOST_SEEDS
from qtablate.table import TOO_FEW, ColumnNote, Table, is_uninformative, p_text, points

_TASK_AXIS = "extra_num_query_tokens"
"""The axis whose contrasts are shown per task."""


_COLUMNS = ("comparison", "fixed levels", "points", INTERVAL, "p", "p axis", "verdict", "MDE", "needed")
_OPTIONAL = ("p axis", "needed", "MDE", "p")
_ABOUT_P_AXIS = ColumnNote(
    ("p axis",), "p axis: adjusted over the contrasts of one axis and kind only, or over the interactions."
)


def contrast_table(contrasts: pd.DataFrame) -> Table | None:
    """Return a row per primary contrast of accuracies; None without any.

    Args:
        contrasts: a row per outcome, contrast and task.
    """
    shown = _over_all_items(contrasts, ACCURACY)
    primary = shown[shown["primary"].astype(bool)]
    if primary.empty:
        return None
    rows = _rows(primary, _task_count(contrasts))
    words = f"In words: {' '.join(contrast_sentences(contrasts))}"
    about = _about(primary, rows)
    return Table("Contrasts", _COLUMNS, rows, _note(primary, rows), 2, _OPTIONAL, about=about, remarks=words)


def secondary_contrast_table(contrasts: pd.DataFrame) -> Table | None:
    """Return a row per other contrast of accuracies over all items; None without any.

    Args:
        contrasts: a row per outcome, contrast and task.
    """
    shown = _over_all_items(contrasts, ACCURACY)
    secondary = shown[~shown["primary"].astype(bool)]
    if secondary.empty:
        return None
    rows = _rows(secondary, _task_count(contrasts))
    note = (
        "The same at one level of the other axes, and interactions: how much more (or less) a level gives at one level of "
        "another axis than at its baseline."
    ) + too_few_note(text for row in rows for text in row)
    about = (
        ColumnNote(("p", "verdict"), "p: adjusted (Holm) over all contrasts, those above among them; it decides the verdict."),
        _ABOUT_P_AXIS,
    )
    return Table("Secondary contrasts", _COLUMNS, rows, note, 2, _OPTIONAL, about=about)


def _rows(contrasts: pd.DataFrame, tasks: int) -> tuple[tuple[str, ...], ...]:
    """Format contrasts; `tasks` is 0 where it is not known."""
    return tuple(
        (
            comparison_label(row),
            fixed_levels_label(row),
            points(row["difference"]),
            interval(row),
            p_text(row["p_holm"]),
            p_text(row["p_axis"]),
            verdict_text(row),
            "" if row["verdict"] in (NOT_COMPARABLE, IDENTICAL) else _mde_text(row["mde"]),
            _needed_text(row, tasks),
        )
        for row in records_of(contrasts)
    )


def _task_count(contrasts: pd.DataFrame) -> int:
    return len(set(contrasts["task"]) - {ALL})


def _over_all_items(contrasts: pd.DataFrame, outcome: str) -> pd.DataFrame:
    """Return the rows of an outcome over all items. Tables of an earlier version know accuracies alone."""
    outcomes = contrasts["outcome"].fillna(ACCURACY).replace("", ACCURACY)
    return contrasts[(contrasts["task"] == ALL) & (outcomes == outcome)]


def likelihood_table(contrasts: pd.DataFrame) -> Table | None:
    """Return a row per primary contrast of the probability of the correct option; None where scorers gave no likelihoods.

    Args:
        contrasts: a row per outcome, contrast and task.
    """
    shown = _over_all_items(contrasts, PROBABILITY)
    shown = shown[shown["primary"].astype(bool)]
    if shown.empty:
        return None
    rows = tuple(row[:-1] for row in _rows(shown, 0))
    note = (
        "Differences in the probability of the correct option among the options of an item, in percentage points; the rest as "
        "in Contrasts. A second outcome: it often sees smaller differences than the accuracy, but a model that is only surer "
        "of the same answers moves it too, so that verdicts and advice rest on the accuracy. contrasts.csv has the log margin, "
        "too."
    ) + too_few_note(text for row in rows for text in row)
    title = "Probability of the correct option"
    return Table(title, _COLUMNS[:-1], rows, note, left=2, optional=("p axis", "MDE", "p"))


def _note(contrasts: pd.DataFrame, rows: Sequence[Sequence[str]]) -> str:
    """Explain the table of primary contrasts, whose texts are `rows`."""
    known = contrasts[contrasts["difference"].notna()] if contrasts["difference"].notna().any() else contrasts
    seeds, items, clips = (sorted({int(count) for count in known[name]}) for name in ("seeds", "n_items", "n_clusters"))
    note = (
        f"Differences of accuracy in points, paired by item and seed over {plural_range(items, 'item')} of "
        f"{plural_range(clips, 'clip')} and {plural_range(seeds, 'seed')}. Intervals: two-way clustered by clip and seed, each "
        "for itself." + too_few_note(text for row in rows for text in row)
    )
    if (contrasts["verdict"] == IDENTICAL).any():
        note += " Identical: the same run, with equal losses at every step; it is neither tested nor counted twice."
    if (contrasts["uncertainty"] == ITEMS_ONLY).any():
        note += " ONE SEED: the intervals hold the uncertainty of the items only, not what another seed would change."
    return note


def _about(contrasts: pd.DataFrame, rows: Sequence[Sequence[str]]) -> tuple[ColumnNote, ...]:
    """Explain columns of the table of primary contrasts, whose texts are `rows`."""
    margin = points(contrasts["margin"].iloc[0], sign=False)
    return (
        ColumnNote(
            ("p", "verdict"),
            "p: adjusted (Holm) over these contrasts, so that a report without effects calls one better or worse in at most "
            "5 % of all repetitions; it decides the verdict.",
        ),
        _ABOUT_P_AXIS,
        ColumnNote(("verdict",), f"Equivalent: surely within ±{margin} points (--margin)."),
        ColumnNote(
            ("MDE",),
            "MDE (minimum detectable effect): smallest reliably detectable difference, which 80 % of all repetitions would "
            "find at the level of p.",
        ),
        ColumnNote(("needed",), _needed_note([row[-1] for row in rows], margin).strip()),
    )


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
    if row["seeds"] < 2:
        return "2 seeds or more"
    if row["mde"] <= row["margin"]:
        return "detectable already"
    items = "" if pd.isna(row["items_needed"]) else _items_needed(int(row["items_needed"]), tasks)
    return " or ".join(filter(None, (_seeds_needed(row), items)))


def _seeds_needed(row: Row) -> str:
    """Format a number of seeds with its range: `12 (7 to 43) seeds`."""
    few, some, many = (row[f"seeds_needed{part}"] for part in ("_low", "", "_high"))
    if pd.isna(few) and pd.isna(some):
        return f"over {MOST_SEEDS} seeds"
    middle = f"over {MOST_SEEDS}" if pd.isna(some) else str(int(some))
    if pd.isna(few):  # a table of an earlier version
        return f"{middle} seeds"
    return f"{middle} ({int(few)} to {'?' if pd.isna(many) else int(many)}) seeds"


def _items_needed(items: int, tasks: int) -> str:
    """Format a number of items, and the option that asks for as many."""
    return f"items {items}" + (f" (--items-per-task {math.ceil(items / tasks)})" if tasks else "")


def _needed_note(texts: Sequence[str], margin: str) -> str:
    """Explain the column `needed`, as far as anything stands there."""
    if not any(texts):
        return ""
    seeds = (
        f"; seeds: number of --seeds, with the range by 80 % confidence in the variance between seeds (?: over {MOST_SEEDS})"
        if any("seeds" in text for text in texts)
        else ""
    )
    items = (
        "; items: in all, and as --items-per-task (as far as the benchmark has them)"
        if any("--items-per-task" in text for text in texts)
        else ""
    )
    return f" Needed: what would make a difference of {margin} points reliably detectable{seeds}{items}."


def contrast_sentences(contrasts: pd.DataFrame) -> list[str]:
    """Say each primary contrast and each interaction in a sentence."""
    shown = records_of(_over_all_items(contrasts, ACCURACY))
    return [contrast_sentence(row) for row in shown if row["primary"] or row["kind"] == INTERACTION]


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
    if row["verdict"] in (NOT_COMPARABLE, IDENTICAL):
        return str(row["verdict"])
    if pd.isna(row["difference"]):
        return NO_SEED
    difference = points(row["difference"])
    if has_too_few(row):
        return f"{difference} ({TOO_FEW})"
    mark = {BETTER: "*", WORSE: "*", EQUIVALENT: "="}.get(str(row["verdict"]), " ")
    return f"{difference} ±{points((row['ci_high'] - row['ci_low']) / 2, sign=False)}{mark}"
