"""The main table of the report: a row per condition."""

import pandas as pd

from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import records_of
from qtablate.report.tables.cells import plural
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.table import TOO_FEW, ColumnNote, Table, number, percent, with_error

_COLUMNS = (
    "batch",
    "steps",
    "loss",
    "accuracy %",
    "seed sd",
    "blind %",
    "visual gain",
    "temporal gain",
    "train s",
    "seeds",
)
_OPTIONAL = ("train s", "loss", "seeds", "batch", "temporal gain", "steps")
_MACRO_DIFFERENCE = 0.0005
"""The accuracy averaged over tasks is shown where it differs from that over items by this share or more."""


def summary_table(summary: pd.DataFrame, budget: str) -> Table:
    """Return the table of conditions.

    Args:
        summary: a row per condition.
        budget: of a cell, as text.
    """
    shown = shown_axes(summary)
    rows = []
    for row in records_of(summary):
        seeds = f"{row['seeds_done']}" + ("" if row["seeds_done"] == row["seeds_wanted"] else f"/{row['seeds_wanted']}")
        rows.append(
            (
                *level_labels(row, shown),
                number(row["effective_batch_size"]),
                number(row["steps"]),
                number(row["train_loss"], 3),
                with_error(row["accuracy"], row["accuracy_item_stderr"], row["n_clusters"]),
                percent(row["accuracy_seed_sd"]),
                percent(row["blind_accuracy"]),
                with_error(row["visual_gain"], row["visual_gain_item_stderr"], row["n_clusters"]),
                with_error(row["temporal_gain"], row["temporal_gain_item_stderr"], row["n_clusters"]),
                number(row["train_seconds"]),
                seeds,
            )
        )
    done = summary[summary["seeds_done"] > 0]
    columns = (*axis_labels(shown), *_COLUMNS)
    if done.empty:
        return Table("Conditions", columns, tuple(rows), "No cell has finished.", optional=_OPTIONAL)
    return Table("Conditions", columns, tuple(rows), _note(done, budget), optional=_OPTIONAL, about=_about(done))


def _about(done: pd.DataFrame) -> tuple[ColumnNote, ...]:
    """Explain columns; `done` holds the conditions that have a finished cell."""
    one_seed = " (unknown with one seed)" if (done["seeds_done"] == 1).all() else ""
    about = [ColumnNote(("seed sd",), f"Seed sd: standard deviation between seeds{one_seed}.")]
    if done["visual_gain"].notna().any():
        about.append(ColumnNote(("visual gain",), "Visual gain = accuracy - blind accuracy."))
    if done["temporal_gain"].notna().any():
        about.append(ColumnNote(("temporal gain",), "Temporal gain = accuracy - accuracy on shuffled frames."))
    return tuple(about)


def _note(done: pd.DataFrame, budget: str) -> str:
    """Explain the table; `done` holds the conditions that have a finished cell."""
    first = done.iloc[0]
    note = (
        f"Accuracy over {plural(int(first['n_items']), 'item')} of {plural(int(first['n_clusters']), 'clip')}, mean over "
        f"seeds. ±: standard error over items, clustered by clip{_missing_errors(done)}. Chance: {percent(first['chance'])} %. "
        f"Budget: {budget}."
    )
    if (done["accuracy_macro"] - done["accuracy"]).abs().max() >= _MACRO_DIFFERENCE:
        macro = ", ".join(percent(value) for value in done["accuracy_macro"])
        note += f" Accuracy averaged over tasks instead of items, row by row: {macro}."
    if done["seeds_done"].nunique() > 1:
        counts = ", ".join(str(count) for count in done["seeds_done"])
        note += f" The means are over different seeds ({counts}, row by row); contrasts use only the seeds in common."
    return note


def _missing_errors(done: pd.DataFrame) -> str:
    """Say why some figures stand without a standard error."""
    if done["n_clusters"].min() < MIN_CLIPS:
        return f" ({TOO_FEW}: fewer than {MIN_CLIPS} clips)"
    errors = done[["accuracy_item_stderr", "visual_gain_item_stderr", "temporal_gain_item_stderr"]]
    return " (omitted where all clips scored alike: their spread is unknown)" if (errors == 0).any(axis=None) else ""
