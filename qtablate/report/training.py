"""How the cells trained, from their train.csv: what they saw, the gradient noise scale, the state of the extra query tokens."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from qtablate.report.extra_tokens import extra_state
from qtablate.report.folder import AXES
from qtablate.report.rows import Row
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
    "noise_scale",
    "noise_scale_ci_low",
    "noise_scale_ci_high",
    "noise_blocks",
    "vs_critical_batch",
)
BLOCKS = 5
"""Blocks of consecutive steps into which the second half of each run is cut: neighboring steps have similar gradients."""
_LARGEST_LOG = 300.0
"""Largest logarithm of the factor between a noise scale and the ends of its interval: exp of more overflows a float."""


def training_frame(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per condition, mean of its finished seeds.

    Updates and noise are those of the second half of the steps, when the start is forgotten; the image ratio is that of all.

    Args:
        store: the results folder.
        cells: its frame of cells.
    """
    rows = []
    for condition, group in cells[cells["status"] == "ok"].groupby(list(AXES), sort=False):
        runs = [pd.read_csv(store.cell_file(str(key), "train.csv")) for key in group["key"]]
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
        row |= noise_scale([] if one_medium else late)
        row["vs_critical_batch"] = _vs_critical_batch(
            float(row["effective_batch_size"]), row["noise_scale_ci_low"], row["noise_scale_ci_high"]
        )
        rows.append(row)
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


def noise_scale(runs: Sequence[pd.DataFrame]) -> dict[str, float | None]:
    """Estimate the gradient noise scale, in samples, with a 95 % interval (McCandlish et al. 2018, arXiv 1812.06162).

    It is the mean variance over the mean squared gradient. The interval is a jackknife of its logarithm that leaves out one
    block of steps at a time. The figures are missing where no window measured it, or where noise hides the gradient.

    Args:
        runs: steps of each seed, with `grad_signal` and `grad_noise`.
    """
    missing: dict[str, float | None] = dict.fromkeys(("noise_scale", "noise_scale_ci_low", "noise_scale_ci_high"), None)
    blocks: list[NDArray[np.float64]] = []
    for run in runs:
        known = run[["grad_signal", "grad_noise"]].dropna().to_numpy(np.float64)
        if len(known):
            blocks += [block.sum(axis=0) for block in np.array_split(known, min(BLOCKS, len(known)))]
    if len(blocks) < 2:
        return {**missing, "noise_blocks": 0}
    sums = np.array(blocks)  # (blocks, 2)
    signal, noise = sums.sum(axis=0)
    left_out = sums.sum(axis=0) - sums
    if signal <= 0 or noise <= 0 or (left_out <= 0).any():
        return {**missing, "noise_blocks": len(blocks)}
    logs = np.log(left_out[:, 1] / left_out[:, 0])
    spread = math.sqrt((len(logs) - 1) / len(logs) * float(((logs - logs.mean()) ** 2).sum()))
    reach = min(float(stats.t.ppf(0.975, len(logs) - 1)) * spread, _LARGEST_LOG)
    scale = float(noise / signal)
    return {
        "noise_scale": scale,
        "noise_scale_ci_low": scale * math.exp(-reach),
        "noise_scale_ci_high": scale * math.exp(reach),
        "noise_blocks": len(blocks),
    }


def _vs_critical_batch(batch: float, low: float | None, high: float | None) -> str:
    """Say where a batch stands relative to the interval of the noise scale, the critical batch: `below`, `near` or `above`."""
    if low is None or high is None:
        return ""
    return "below" if batch < low else "above" if batch > high else "near"


def _mean(values: list[float]) -> float | None:
    """Average the values that are not missing."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None
