"""Tidy pandas frames of the cells of a results folder: cells, tasks, answers, and the summary over seeds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from qtablate import axes
from qtablate.controls import BLIND, CONTROLS, FULL, SHUFFLED
from qtablate.records import NOT_NEEDED, PlannedCell, Record
from qtablate.report.cell_answers import CellAnswers, all_items, mean_correct, read_cell_answers
from qtablate.report.csv_files import write_table
from qtablate.report.folder import AXES, finished_before, missing_cells
from qtablate.report.rows import Row
from qtablate.statistics.clustered import clustered_mean
from qtablate.store import Store
from qtablate.versions import versions_text

GAINS = {"visual_gain": BLIND, "temporal_gain": SHUFFLED}
"""A gain is the accuracy minus the accuracy under this control."""

_AXES_AND_BATCH = tuple(
    column for axis in AXES for column in ((axis, "effective_batch_size") if axis == "micro_batch_size" else (axis,))
)
CELL_COLUMNS = (
    "key",
    "status",
    *_AXES_AND_BATCH,
    "incorrect",
    "seed",
    "steps",
    "samples_seen",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "truncated_samples",
    "dropout",
    "micro_batch_parts",
    "peak_learning_rate",
    "train_loss",
    "accuracy",
    "accuracy_stderr",
    "accuracy_macro",
    "accuracy_per_token",
    "n_items",
    "chance",
    "blind_accuracy",
    "visual_gain",
    "visual_gain_stderr",
    "temporal_gain",
    "temporal_gain_stderr",
    *(f"{control}_accuracy" for control in CONTROLS if control != BLIND),
    "train_seconds",
    "eval_seconds",
    "control_seconds",
    "peak_memory_mb",
    "visual_tokens",
    "trainable_params",
    "frozen_params",
    "software",
    "host",
    "error",
)
TASK_COLUMNS = (
    "key",
    *AXES,
    "incorrect",
    "seed",
    "task",
    "n_items",
    "accuracy",
    "accuracy_stderr",
    "accuracy_per_token",
    *(f"{control}_accuracy" for control in CONTROLS),
    "chance",
)
SUMMARY_COLUMNS = (
    *AXES,
    "effective_batch_size",
    "incorrect",
    "visual_tokens",
    "seeds_done",
    "seeds_wanted",
    "steps",
    "samples_seen",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "peak_learning_rate",
    "train_loss",
    "accuracy",
    "accuracy_seed_sd",
    "accuracy_item_stderr",
    "accuracy_macro",
    "accuracy_per_token",
    "n_items",
    "n_clusters",
    "chance",
    "blind_accuracy",
    "visual_gain",
    "visual_gain_item_stderr",
    "temporal_gain",
    "temporal_gain_item_stderr",
    *(f"{control}_accuracy" for control in CONTROLS if control != BLIND),
    "train_seconds",
    "eval_seconds",
    "control_seconds",
    "peak_memory_mb",
)

_SUMMARY_CONSTANTS = ("visual_tokens", "n_items", "chance", "peak_learning_rate")
"""Figures that all seeds of a condition share."""
_SUMMARY_MEANS = (
    "steps",
    "samples_seen",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "train_loss",
    "accuracy",
    "accuracy_macro",
    "accuracy_per_token",
    *(f"{control}_accuracy" for control in CONTROLS),
    *GAINS,
    "train_seconds",
    "eval_seconds",
    "control_seconds",
    "peak_memory_mb",
)
"""Figures that the summary averages over the seeds."""


@dataclass(frozen=True)
class CellFrames:
    """What the records of a folder's cells hold; each record is read once."""

    cells: pd.DataFrame
    """A row per cell, in their order; what a cell has not measured is missing."""
    tasks: pd.DataFrame
    """A row per finished cell and task."""
    unscored: tuple[dict[str, str], ...]
    """Subject, kind and detail of the items that the model of some finished cell could not score, each once."""


def read_cells(store: Store, planned: Sequence[PlannedCell], not_needed: Collection[str] = ()) -> CellFrames:
    """Read the records of some cells of a folder.

    Args:
        store: the results folder.
        planned: the cells.
        not_needed: keys of those that are not run because everything that they tell is decided.
    """
    rows: list[Row] = []
    task_rows: list[Row] = []
    unscored: dict[tuple[str, str], dict[str, str]] = {}
    running = store.running()
    for entry in planned:
        state = store.state(entry.key)
        interrupted = state.status == "running" and entry.key not in running  # the next sweep runs it
        record = None if interrupted else state.record
        incorrect = axes.incorrect_levels(entry.condition)
        named: Row = {"key": entry.key, "seed": entry.seed, **entry.condition, "incorrect": incorrect}
        row = {**named, "effective_batch_size": axes.effective_batch_size(entry.condition)}
        row["status"] = "pending" if interrupted else state.status
        if entry.key in not_needed and row["status"] != "ok":
            row["status"] = NOT_NEEDED
        row["error"] = record.error if record else state.damage
        row["software"] = versions_text(record.versions) if record else ""
        row["host"] = record.host if record else ""
        rows.append(row | _figures(record))
        if record and record.figures and state.status == "ok":
            task_rows += [named | _task_figures(task) for task in record.figures["tasks"]]
            for problem in record.figures.get("unscored", ()):
                unscored.setdefault((problem["subject"], problem["kind"]), problem)
    return CellFrames(
        pd.DataFrame(rows, columns=list(CELL_COLUMNS)),
        pd.DataFrame(task_rows, columns=list(TASK_COLUMNS)),
        tuple(unscored.values()),
    )


def cell_frame(store: Store, planned: Sequence[PlannedCell] | None = None, not_needed: Collection[str] = ()) -> pd.DataFrame:
    """Return a row per cell, in their order; what a cell has not measured is missing.

    Args:
        store: the results folder.
        planned: the cells; None: those of the grid, with those of them that are not needed.
        not_needed: keys of `planned` that are not run because everything that they tell is decided.
    """
    if planned is None:
        sweep = store.read_sweep()
        planned, not_needed = sweep.cells, sweep.not_needed
    return read_cells(store, planned, not_needed).cells


def _figures(record: Record | None) -> Row:
    """Return the figures of a finished cell by column; empty for another cell."""
    if not record or not record.figures:
        return {}
    figures = record.figures
    return {
        "micro_batch_parts": 1,  # of records that were written before there was such a figure
        **{name: figures[name] for name in figures if name in CELL_COLUMNS and name != "accuracy"},
        "accuracy": figures["accuracy"]["value"],
        "accuracy_stderr": figures["accuracy"]["stderr"],
        "accuracy_per_token": figures["accuracy_per_token"]["value"],
        "n_items": figures["accuracy"]["n"],
        **{f"{gain}{part}": figures[gain][name] for gain in GAINS for part, name in (("", "value"), ("_stderr", "stderr"))},
        **{f"{control}_accuracy": score["value"] for control, score in figures["controls"].items()},
    }


def _task_figures(task: Row) -> Row:
    """Return the figures of a task, as a record holds them, by column."""
    return {
        "task": task["task"],
        "n_items": task["accuracy"]["n"],
        "accuracy": task["accuracy"]["value"],
        "accuracy_stderr": task["accuracy"]["stderr"],
        "accuracy_per_token": task["per_token"]["value"],
        **{f"{control}_accuracy": score["value"] for control, score in task["controls"].items()},
        "chance": task["chance"],
    }


def summary_frame(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per condition, over its finished seeds.

    Two uncertainties are kept apart: `accuracy_seed_sd` is the standard deviation between seeds (missing with one seed);
    `accuracy_item_stderr` is the standard error over items, clustered by clip, of the answers averaged over the seeds.
    """
    rows = []
    for condition, group in cells.groupby(list(AXES), sort=False):
        done = group[group["status"] == "ok"]
        row: Row = dict(zip(AXES, condition, strict=True))
        row |= {"seeds_done": len(done), "seeds_wanted": int((group["status"] != NOT_NEEDED).sum())}
        row |= {name: group[name].iloc[0] for name in ("effective_batch_size", "incorrect")}
        if len(done):
            row |= {name: done[name].iloc[0] for name in _SUMMARY_CONSTANTS}
            row |= {name: done[name].astype(float).mean() for name in _SUMMARY_MEANS}
            row["accuracy_seed_sd"] = done["accuracy"].astype(float).std(ddof=1) if len(done) > 1 else np.nan
            row |= _item_errors([read_cell_answers(store, str(key)) for key in done["key"]])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def _item_errors(cells: Sequence[CellAnswers]) -> Row:
    """Return the number of clips, and the standard errors over items, of the answers of one condition's cells."""
    items, clusters = all_items(cells)
    full = mean_correct(cells, FULL, items)
    assert full is not None
    clips = list(clusters)
    errors: Row = {"n_clusters": len(set(clips)), "accuracy_item_stderr": clustered_mean(full, clips).stderr}
    for gain, control in GAINS.items():
        other = mean_correct(cells, control, items)
        if other is not None:
            errors[f"{gain}_item_stderr"] = clustered_mean(full - other, clips).stderr
    return errors


def write_tables(store: Store) -> list[Path]:
    """Write cells.csv, tasks.csv and summary.csv, and return their paths.

    Nothing is written over tables of finished cells whose files are gone and that will run again.
    """
    sweep = store.read_sweep()
    if missing_cells(store, finished_before(store) & {cell.key for cell in sweep.all_cells}):
        return []
    found = read_cells(store, sweep.cells)
    tables = {"cells": found.cells, "tasks": found.tasks, "summary": summary_frame(store, found.cells)}
    return [write_table(store, name, frame) for name, frame in tables.items()]
