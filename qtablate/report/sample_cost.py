"""What a larger batch costs in samples, against the smallest batch at otherwise equal levels: predicted and measured."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.axes import SPLIT, canonical_levels
from qtablate.report.folder import AXES
from qtablate.report.rows import Row
from qtablate.statistics.distributions import t_quantile

COLUMNS = (
    "smaller_batch",
    "sample_cost_predicted",
    "sample_cost_predicted_ci_low",
    "sample_cost_predicted_ci_high",
    "sample_cost_measured",
    "sample_cost_measured_ci_low",
    "sample_cost_measured_ci_high",
    "sample_cost_seeds",
)
SMOOTHED = 0.1
"""Share of a run's samples over which its training loss is averaged."""
Runs = Mapping[int, pd.DataFrame]
"""train.csv by seed."""


def add_sample_costs(rows: Sequence[Row], runs: Sequence[Runs], reference_batch: int) -> None:
    """Add COLUMNS to the rows of the training frame; the figures are missing where no condition has a smaller batch.

    Conditions that break a rule of accumulation are left out.

    Args:
        rows: of the training frame, with the noise scale.
        runs: the finished cells of each row.
        reference_batch: effective batch size that the learning rate is meant for.
    """
    for row, of_row in zip(rows, runs, strict=True):
        row.update(dict.fromkeys(COLUMNS, None))
        place = _smaller(row, rows, reference_batch)
        if place is not None:
            batch, smaller = float(row["effective_batch_size"]), float(rows[place]["effective_batch_size"])
            row["smaller_batch"] = smaller
            row.update(predicted_cost(batch, smaller, row))
            row.update(measured_cost(of_row, runs[place]))


def predicted_cost(batch: float, smaller: float, noise: Row) -> Row:
    """Predict the samples that a batch needs over those that a smaller one needs, from the gradient noise scale S.

    (1 + batch / S) / (1 + smaller / S), by McCandlish et al. 2018 (arXiv 1812.06162). It is between 1 and batch / smaller.

    Args:
        batch: samples per step.
        smaller: those of the smaller batch.
        noise: the noise scale with its interval; where it has no upper end, the lower end of the cost is 1.
    """

    def cost(scale: float) -> float:
        return (scale + batch) / (scale + smaller)

    scale, low, high = (noise[f"noise_scale{part}"] for part in ("", "_ci_low", "_ci_high"))
    if pd.isna(low):
        return {}
    return {
        "sample_cost_predicted": None if pd.isna(scale) else cost(scale),
        "sample_cost_predicted_ci_low": 1.0 if pd.isna(high) else cost(high),
        "sample_cost_predicted_ci_high": cost(low),
    }


def measured_cost(larger: Runs, smaller: Runs) -> Row:
    """Measure the samples that a batch needs over those that a smaller one needs for the same training loss.

    Of each seed: the loss is the higher one of the two at the end of training. One batch reaches it at its end, the other in
    mid-course, before its learning rate has decayed. It would need fewer samples in a run made for that loss, so that a cost
    above 1 is a lower bound and one below 1 an upper bound. The figure is the geometric mean over seeds; its 95 % interval is
    that of a t test over seeds.

    Args:
        larger: runs of the larger batch.
        smaller: runs of the smaller batch.
    """
    costs = [_cost_of_seed(larger[seed], smaller[seed]) for seed in larger if seed in smaller]
    logs = np.log([cost for cost in costs if cost is not None])
    count = len(logs)
    found: Row = {"sample_cost_seeds": count, "sample_cost_measured": math.exp(logs.mean()) if count else None}
    if count > 1:
        reach = float(t_quantile(0.975, count - 1)) * float(logs.std(ddof=1)) / math.sqrt(count)
        found["sample_cost_measured_ci_low"] = math.exp(logs.mean() - reach)
        found["sample_cost_measured_ci_high"] = math.exp(logs.mean() + reach)
    return found


def _smaller(row: Row, rows: Sequence[Row], reference_batch: int) -> int | None:
    """Return the place of the smallest batch that is smaller than that of a row, at otherwise equal levels."""

    def comparable(other: Row) -> bool:
        levels, wanted = ({axis: one[axis] for axis in AXES} for one in (other, row))
        wanted |= {axis: other[axis] for axis in SPLIT}
        return canonical_levels(levels, reference_batch) == canonical_levels(wanted, reference_batch)

    batches = {
        place: other["effective_batch_size"]
        for place, other in enumerate(rows)
        if not other["incorrect"] and other["effective_batch_size"] < row["effective_batch_size"] and comparable(other)
    }
    return min(batches, key=batches.__getitem__) if batches and not row["incorrect"] else None


def _cost_of_seed(larger: pd.DataFrame, smaller: pd.DataFrame) -> float | None:
    """Compare two runs of a seed; None where a run has too few steps to average its loss, or a loss is not finite."""
    total = min(float(run["samples_seen"].iloc[-1]) for run in (larger, smaller))
    courses = [_smoothed(run, SMOOTHED * total) for run in (larger, smaller)]
    if any(len(samples) < 2 or not np.isfinite(losses).all() for samples, losses in courses):
        return None
    loss = max(float(losses[-1]) for _, losses in courses)
    needed = [_samples_to(samples, losses, loss) for samples, losses in courses]
    return needed[0] / needed[1]


def _smoothed(run: pd.DataFrame, width: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Average the training loss per token over the last `width` samples at each step. Returns samples seen and losses."""
    tokens = run["supervised_tokens"].to_numpy(np.float64)
    summed = np.where(tokens > 0, run["loss"].to_numpy(np.float64), 0.0) * tokens
    samples = np.concatenate([[0.0], run["samples_seen"].to_numpy(np.float64)])
    first = np.searchsorted(samples, samples[1:] - width)  # where the window of each step begins
    totals = [np.concatenate([[0.0], np.cumsum(values)]) for values in (summed, tokens)]
    parts = [total[1:] - total[first] for total in totals]
    kept = (samples[1:] >= width) & (parts[1] > 0)
    return samples[1:][kept], parts[0][kept] / parts[1][kept]


def _samples_to(samples: NDArray[np.float64], losses: NDArray[np.float64], loss: float) -> float:
    """Return the number of samples from which on the losses stay at or below one that the last of them does not exceed."""
    if losses[-1] >= loss:
        return float(samples[-1])
    above = np.flatnonzero(losses > loss)
    if not len(above):
        return float(samples[0])
    last = int(above[-1])
    share = (losses[last] - loss) / (losses[last] - losses[last + 1])
    return float(samples[last] + share * (samples[last + 1] - samples[last]))
