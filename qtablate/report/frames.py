"""From the files of a results folder to tidy tables. Reads files only: works on any folder, finished or not, without torch."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from qtablate import axes
from qtablate.controls import BLIND, CONTROLS, FULL, SHUFFLED
from qtablate.errors import StoreError
from qtablate.grid import BUDGET_WORDS, RECORD_SCHEMA
from qtablate.statistics.clustered import clustered_mean
from qtablate.store import DAMAGED, Store
from qtablate.versions import in_words

AXES = tuple(axis.name for axis in axes.AXES)
"""What names a condition."""
HELD = {"samples": "samples_seen", "steps": "steps", "tokens": "supervised_tokens"}
"""The column of what a budget holds."""

GAINS = {"visual_gain": BLIND, "temporal_gain": SHUFFLED}
"""What is gained over which control."""

CELL_COLUMNS = (
    "key",
    "status",
    *AXES[:3],
    "effective_batch_size",
    *AXES[3:],
    "incorrect",
    "seed",
    "steps",
    "samples_seen",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "truncated_samples",
    "dropout",
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


TEXT_COLUMNS = (
    "incorrect",
    "error",
    "software",
    "host",
    "extra_state",
    "vs_critical_batch",
    "equivalent_to_best",
    "fixed_levels",
    "other_axis",
    "uncertainty",
    "verdict",
    "extra_state",
    "predicted_letters",
    "gold_letters",
)
"""Columns in which nothing is an empty text, not a missing figure."""
_SWEEP = {
    "schema": int,
    "grid": dict,
    "recipe": dict,
    "sources": dict,
    "fingerprints": dict,
    "items": int,
    "cells": list,
    "problems": list,
    "versions": dict,
}
"""What sweep.json has to hold, and as what."""


def read_sweep(store: Store) -> dict[str, Any]:
    """sweep.json, with all that the tables need of it. Raises StoreError."""
    sweep = store.read_sweep()
    for name, kind in _SWEEP.items():
        if not isinstance(sweep.get(name), kind):
            raise StoreError(
                f"{store.sweep_file}: '{name}' should be of type {kind.__name__}, is {type(sweep.get(name)).__name__}: "
                "run the sweep again, finished cells are kept"
            )
    named = ("key", "seed", *(AXES if sweep["schema"] == RECORD_SCHEMA else ()))
    if not all(isinstance(cell, dict) and cell.keys() >= set(named) for cell in sweep["cells"]):
        raise StoreError(
            f"{store.sweep_file}: each of 'cells' should name {', '.join(named)}: run the sweep again, finished cells are kept"
        )
    return sweep


def checked(store: Store) -> dict[str, Any]:
    """sweep.json of a folder whose cells' files are all there. Raises StoreError for another version's, and where finished
    cells are gone."""
    sweep = read_sweep(store)
    if why := tables_only(store, sweep):
        raise StoreError(f"{store.root} can only be read from its tables ({why}): run its sweep again")
    return sweep


def tables_only(store: Store, sweep: Mapping[str, Any]) -> str:
    """Why a folder is to be read from its tables alone; empty where the files of its cells are all there.

    Tables that rest on more cells than are left must neither be replaced nor be mixed with what is left.
    """
    before = finished_before(store)
    if sweep["schema"] != RECORD_SCHEMA:
        return f"another version of qtablate wrote it: record schema {sweep['schema']}, this one reads {RECORD_SCHEMA}"
    gone = vanished(store, before & {str(cell["key"]) for cell in sweep["cells"]})
    return f"{len(gone)} of its {len(before)} finished cells are no longer under cells/ as they were" if gone else ""


def finished_before(store: Store) -> set[str]:
    """Keys of the cells that cells.csv calls finished; none where there is no such table."""
    try:
        table = pd.read_csv(store.table_file("cells.csv"), usecols=["key", "status"], dtype=str)
    except (OSError, ValueError):
        return set()
    return set(table.loc[table["status"] == "ok", "key"])


def vanished(store: Store, keys: Iterable[str]) -> set[str]:
    """Of some cells that were finished, those that have gone or are being run again. Damaged ones count too where none of the
    cells is what it was, as in a copy without their answers."""
    now = {key: store.state(key).status for key in keys}
    lost = {key for key, status in now.items() if status not in ("ok", DAMAGED)}
    return lost if "ok" in now.values() else set(now)


def read_table(store: Store, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table as it was written, empty where it is not there; columns that it lacks are missing values. Raises StoreError for
    a file that is no table."""
    path = store.table_file(f"{name}.csv")
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        return pd.DataFrame(columns=list(columns))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}): run the sweep again") from None
    table = table.reindex(columns=[*columns, *(one for one in table.columns if one not in columns)])
    for column in set(TEXT_COLUMNS) & set(table.columns):
        table[column] = table[column].astype(object).where(table[column].notna(), "")
    return table


def budget(sweep: Mapping[str, Any]) -> str:
    """The budget that a sweep holds, in words."""
    recipe = sweep["recipe"]
    held = recipe.get("budget", "samples")  # earlier versions knew no other
    return f"{recipe['samples' if held == 'samples' else 'budget_size']} {BUDGET_WORDS[held]}"


def cells(store: Store) -> pd.DataFrame:
    """A row a cell of the sweep, in its order; what a cell has not measured is missing."""
    rows = []
    running = store.busy()
    for entry in store.read_sweep()["cells"]:
        state = store.state(entry["key"])
        interrupted = state.status == "running" and not running  # the next sweep runs it
        record = None if interrupted else state.record
        row: dict[str, Any] = {name: entry[name] for name in ("key", "seed", *AXES)}
        row |= {"effective_batch_size": axes.effective(entry), "incorrect": axes.incorrect_levels(entry)}
        row["status"] = "pending" if interrupted else state.status
        row["error"] = record.error if record else state.damage
        row["software"] = in_words(record.versions) if record else ""
        row["host"] = record.host if record else ""
        if record and record.figures:
            f = record.figures
            row |= {name: f[name] for name in f if name in CELL_COLUMNS and name != "accuracy"}
            row |= {
                "accuracy": f["accuracy"]["value"],
                "accuracy_stderr": f["accuracy"]["stderr"],
                "accuracy_per_token": f["accuracy_per_token"]["value"],
                "n_items": f["accuracy"]["n"],
                **{f"{gain}{part}": f[gain][name] for gain in GAINS for part, name in (("", "value"), ("_stderr", "stderr"))},
                **{f"{control}_accuracy": one["value"] for control, one in f["controls"].items()},
            }
        rows.append(row)
    return pd.DataFrame(rows, columns=list(CELL_COLUMNS))


def tasks(store: Store) -> pd.DataFrame:
    """A row a finished cell and task."""
    rows = []
    for entry in store.read_sweep()["cells"]:
        record = store.read_finished(entry["key"])
        for task in record.figures["tasks"] if record and record.figures else ():
            row = {name: entry[name] for name in ("key", "seed", *AXES)}
            row |= {
                "incorrect": axes.incorrect_levels(entry),
                "task": task["task"],
                "n_items": task["accuracy"]["n"],
                "accuracy": task["accuracy"]["value"],
                "accuracy_stderr": task["accuracy"]["stderr"],
                "accuracy_per_token": task["per_token"]["value"],
                **{f"{control}_accuracy": one["value"] for control, one in task["controls"].items()},
                "chance": task["chance"],
            }
            rows.append(row)
    return pd.DataFrame(rows, columns=list(TASK_COLUMNS))


def answers(store: Store, keys: Sequence[str]) -> pd.DataFrame:
    """A row a cell, control and item, of the cells named."""
    frames = [pd.read_csv(store.cell_file(key, "answers.csv")).assign(key=key) for key in keys]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def summary(store: Store, cell_table: pd.DataFrame) -> pd.DataFrame:
    """A row a condition, over its finished seeds.

    Two uncertainties, not mixed: `accuracy_seed_sd` is the spread between seeds (missing with one seed);
    `accuracy_item_stderr` that of the items, clustered by clip, of the answers averaged over the seeds.
    """
    rows = []
    for condition, group in cell_table.groupby(list(AXES), sort=False):
        done = group[group["status"] == "ok"]
        row: dict[str, Any] = dict(zip(AXES, condition, strict=True))
        row |= {"seeds_done": len(done), "seeds_wanted": len(group)}
        row |= {name: group[name].iloc[0] for name in ("effective_batch_size", "incorrect")}
        if len(done):
            for name in ("visual_tokens", "n_items", "chance", "peak_learning_rate"):
                row[name] = done[name].iloc[0]
            for name in (
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
            ):
                row[name] = done[name].astype(float).mean()
            row["accuracy_seed_sd"] = done["accuracy"].astype(float).std(ddof=1) if len(done) > 1 else np.nan
            given = answers(store, list(done["key"]))
            table = given.pivot_table(index=["item", "cluster"], columns="control", values="correct")
            media = list(table.index.get_level_values("cluster"))
            row["n_clusters"] = len(set(media))
            row["accuracy_item_stderr"] = clustered_mean(list(table[FULL]), media).stderr
            for gain, control in GAINS.items():
                if control in table:
                    row[f"{gain}_item_stderr"] = clustered_mean(list(table[FULL] - table[control]), media).stderr
        rows.append(row)
    return pd.DataFrame(rows, columns=list(SUMMARY_COLUMNS))


def write_tables(store: Store) -> list[Path]:
    """Write cells.csv, tasks.csv and summary.csv, and return their paths; nothing is written over tables that rest on
    finished cells which are gone and to be run again."""
    if vanished(store, finished_before(store) & {str(cell["key"]) for cell in store.read_sweep()["cells"]}):
        return []
    cell_table = cells(store)
    out = []
    for name, table in (("cells", cell_table), ("tasks", tasks(store)), ("summary", summary(store, cell_table))):
        out.append(write_table(store, name, table))
    return out


def refuse_loss(store: Store, keys: Collection[str]) -> None:
    """Stop a sweep of other cells from replacing tables whose own cells are gone. Raises StoreError."""
    lost = {key for key in finished_before(store) - set(keys) if not store.finished(key)}
    if lost:
        raise StoreError(
            f"{store.root} holds tables of {len(lost)} finished cells that are no longer under cells/ or that this version "
            "cannot read, and that are not of this grid: this sweep would replace them. Use another --out, "
            "or move or delete that folder"
        )


def write_table(store: Store, name: str, table: pd.DataFrame) -> Path:
    path = store.table_file(f"{name}.csv")
    store.write_rows(path, _plain(table), list(table.columns))
    return path


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of Python values; missing is None, whole numbers stay whole."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return [{str(name): _whole(value) for name, value in row.items()} for row in rows]


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
