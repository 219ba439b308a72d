"""How the cells trained, from their train.csv: what they saw, the gradient noise scale, the state of the extra query tokens."""

import math

import numpy as np
import pandas as pd

from qtablate.report import noise_scale, sample_cost
from qtablate.report.extra_tokens import extra_state
from qtablate.report.folder import AXES
from qtablate.report.rows import Row
from qtablate.report.steps import read_steps
from qtablate.store import Store

COLUMNS = (
    *AXES,
    "effective_batch_size",
    "incorrect",
    "seeds",
    "samples_seen",
    "steps",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "peak_learning_rate",
    "image_ratio",
    "image_ratio_sd",
    "extra_update",
    "query_update",
    "extra_cosine",
    "extra_rank",
    "extra_state",
    *noise_scale.COLUMNS,
    *sample_cost.COLUMNS,
)


def training_frame(store: Store, cells: pd.DataFrame, reference_batch: int) -> pd.DataFrame:
    """Return a row per condition, mean of its finished seeds.

    Updates and noise are those of the second half of the steps, when the start is forgotten; the image ratio is that of all.

    Args:
        store: the results folder.
        cells: its frame of cells.
        reference_batch: effective batch size that the learning rate is meant for.
    """
    rows: list[Row] = []
    runs_of: list[sample_cost.Runs] = []
    for condition, group in cells[cells["status"] == "ok"].groupby(list(AXES), sort=False):
        runs_of.append(_runs(store, group))
        runs = list(runs_of[-1].values())
        row: Row = dict(zip(AXES, condition, strict=True))
        row |= {name: group[name].iloc[0] for name in ("effective_batch_size", "incorrect", "peak_learning_rate")}
        row["seeds"] = len(runs)
        for name in ("samples_seen", "steps", "supervised_tokens", "skipped_windows", "overflows"):
            row[name] = float(group[name].astype(float).mean())
        row["image_ratio"] = float(np.mean([run["image_ratio"].mean() for run in runs]))
        row["image_ratio_sd"] = float(np.mean([run["image_ratio"].std(ddof=0) for run in runs]))
        late = [run.iloc[len(run) // 2 :] for run in runs]
        for name in ("extra_update", "query_update"):
            row[name] = _mean([float(run[name].mean()) for run in late])
        for name in ("extra_cosine", "extra_rank"):
            row[name] = _mean([float(run[name].iloc[-1]) for run in runs])
        row["extra_state"] = trained_state(row["extra_update"], row["query_update"], row["extra_cosine"])
        one_medium = row["mixing"] != "mixed" and 0 < row["image_ratio"] < 1  # micro-batches differ by more than their noise
        row |= noise_scale.noise_scale([] if one_medium else [noise_scale.windows_of(run) for run in late])
        row |= noise_scale.noise_course([] if one_medium else [noise_scale.windows_of(run) for run in runs])
        rows.append(row)
    sample_cost.add_sample_costs(rows, runs_of, reference_batch)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def trained_state(extra_update: float | None, query_update: float | None, extra_cosine: float | None) -> str:
    """Return the state of the extra tokens: `frozen`, `copies`, or empty for sound ones and where there are none.

    Args:
        extra_update: length of a step of the extra tokens, relative to their norm; None where there are none.
        query_update: that of the base tokens.
        extra_cosine: mean cosine of pairs of extra tokens at the end.
    """
    if extra_update is None:
        return ""
    return extra_state(extra_update / query_update if query_update else None, extra_cosine)


def _runs(store: Store, cells: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Read the steps of some cells, by seed."""
    return {int(seed): read_steps(store, str(key)) for seed, key in zip(cells["seed"], cells["key"], strict=True)}


def _mean(values: list[float]) -> float | None:
    """Average the values that are not missing."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
