"""The finished conditions as plots show them: means with 95 % intervals, and the seeds behind them."""

import math
from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate import axes
from qtablate.report.answers import PROBABILITY, axes_of
from qtablate.report.folder import AXES
from qtablate.report.labels import axis_labels, condition_label, short_label
from qtablate.report.results import Results
from qtablate.report.rows import Row, records_of
from qtablate.statistics.clustered import MIN_CLIPS, clustered_mean
from qtablate.statistics.distributions import t_quantile
from qtablate.statistics.sequential import error_share

MEASURES = ("accuracy", PROBABILITY)
INTERVALS = (
    "Bars: 95 % intervals of the condition means, from the variance between seeds over their number plus the squared standard "
    "error over items (clustered by clip), with Satterthwaite's degrees of freedom; over items alone with one seed; none with "
    f"fewer than {MIN_CLIPS} clips."
)
"""What the intervals are, for captions."""


def plot_axes(results: Results) -> list[str]:
    """Return the columns of the axes that name a condition: those that vary; tokens and accumulation where none does.

    The effective batch size stands for the micro-batch size where the grid holds the former fixed.
    """
    summary = results.summary
    columns = [column for column in axes_of(results.sweep.config.grid.batch_size_is) if column in summary]
    placeholders = {axis.column: axis.placeholder for axis in axes.AXES}
    varying = {column for column in columns if len(set(summary[column].dropna()) - {placeholders.get(column)}) > 1}
    return [column for column in columns if column in (varying or {axis.column for axis in axes.HEADLINE})]


_FRAMES: WeakKeyDictionary[Results, pd.DataFrame] = WeakKeyDictionary()
"""What `condition_frame` has returned: every plot asks for it."""


def condition_frame(results: Results) -> pd.DataFrame:
    """Return a row per finished condition: its axes, number, labels, and of each measure the mean and half its interval."""
    if results not in _FRAMES:
        _FRAMES[results] = _condition_frame(results)
    return _FRAMES[results].copy()


def _condition_frame(results: Results) -> pd.DataFrame:
    summary, shown = results.summary, plot_axes(results)
    probabilities = _probabilities(results)
    rows: list[Row] = []
    numbers = ["accuracy", "accuracy_seed_sd", "accuracy_item_stderr", "n_clusters", "blind_accuracy", "chance"]
    done, planned = summary[summary["seeds_done"] > 0], len(results.sweep.planned_seeds)
    for row in records_of(done.assign(**{name: done[name].astype(float) for name in numbers})):  # missing is None in some
        clusters = row["n_clusters"]
        levels = tuple(row[axis] for axis in axes_of(results.sweep.config.grid.batch_size_is))
        per_seed, probability_stderr = probabilities.get(levels, (np.zeros(0), math.nan))
        share = error_share(row["seeds_done"], planned) if planned else 1.0
        half = interval_half(row["seeds_done"], row["accuracy_seed_sd"], row["accuracy_item_stderr"], clusters, share)
        rows.append(
            {
                **{axis: row[axis] for axis in (*AXES, "effective_batch_size")},
                "condition": len(rows),
                "label": condition_label(row, shown),
                "short": short_label(row, shown).replace(" (incorrect)", "*"),
                "incorrect": bool(row["incorrect"]),
                "accuracy": row["accuracy"],
                "accuracy_half": half,
                PROBABILITY: float(per_seed.mean()) if len(per_seed) else math.nan,
                f"{PROBABILITY}_half": interval_half(len(per_seed), _deviation(per_seed), probability_stderr, clusters, share),
                "blind_accuracy": row["blind_accuracy"],
                "chance": row["chance"],
            }
        )
    names = [*AXES, "effective_batch_size", "condition", "label", "short", "incorrect", "accuracy", "accuracy_half"]
    return pd.DataFrame(rows, columns=[*names, PROBABILITY, f"{PROBABILITY}_half", "blind_accuracy", "chance"])


def seed_frame(results: Results, conditions: pd.DataFrame) -> pd.DataFrame:
    """Return a row per finished cell: the number of its condition, its seed, and its measures."""
    cells = results.cells
    done = cells.loc[cells["status"] == "ok", [*AXES, "seed", "accuracy"]]
    frame = done.astype({"accuracy": float}).merge(conditions[[*AXES, "condition"]], on=list(AXES))
    values = {} if results.tables_only else results.answer_arrays.probability
    names = axes_of(results.sweep.config.grid.batch_size_is)
    batches = conditions.set_index("condition")["effective_batch_size"]
    frame["effective_batch_size"] = frame["condition"].map(batches)
    frame[PROBABILITY] = [
        float(values[key].mean()) if (key := (tuple(row[axis] for axis in names), int(row["seed"]))) in values else math.nan
        for row in records_of(frame)
    ]
    return frame[["condition", "seed", *MEASURES]]


def interval_half(seeds: float, seed_sd: float, item_stderr: float, clusters: float, share: float = 1.0) -> float:
    """Return half the 95 % interval of a condition's mean; missing where too little is known of its uncertainty.

    Args:
        seeds: finished ones.
        seed_sd: standard deviation between them; missing with one.
        item_stderr: standard error over items, clustered by clip, of the answers averaged over the seeds.
        clusters: number of clips.
        share: of the error, where seeds are added until all is decided (statistics/sequential.py).
    """
    parts = [(item_stderr**2, clusters - 1), (seed_sd**2 / seeds if seeds > 1 else math.nan, seeds - 1)]
    known = [(variance, dof) for variance, dof in parts if not math.isnan(variance) and dof > 0]
    total = sum(variance for variance, _ in known)
    if clusters < MIN_CLIPS or math.isnan(item_stderr) or not share:
        return math.nan
    if total == 0:
        return 0.0
    dof = total**2 / sum(variance**2 / dof for variance, dof in known)
    return float(t_quantile(1 - 0.025 * share, dof)) * math.sqrt(total)


def short_caption(conditions: pd.DataFrame, results: Results) -> str:
    """Say for a caption what the short names of conditions mean."""
    starred = "; *: incorrect" if conditions["incorrect"].any() else ""
    return f"{' / '.join(axis_labels(plot_axes(results)))}{starred}"


def extremes(conditions: pd.DataFrame, limit: int) -> tuple[pd.DataFrame, str]:
    """Keep at most `limit` conditions, half of the highest and half of the lowest accuracy, and say so for a caption."""
    if len(conditions) <= limit:
        return conditions, ""
    order = conditions["accuracy"].sort_values(kind="stable").index
    kept = conditions.loc[sorted([*order[: limit // 2], *order[len(order) - (limit - limit // 2) :]])]
    half = limit // 2
    note = f" Of {len(conditions)} conditions, the {limit - half} of highest and the {half} of lowest accuracy are shown."
    return kept, note


def _probabilities(results: Results) -> dict[tuple[axes.Level, ...], tuple[NDArray[np.float64], float]]:
    """Return, for each condition, the mean probability of the correct option of every seed, and its error over items."""
    if results.tables_only:
        return {}
    answers = results.answer_arrays
    clips: Sequence[str] = [str(clip) for clip in answers.clips]
    by_condition: dict[tuple[axes.Level, ...], list[NDArray[np.float64]]] = {}
    for (condition, _), values in answers.probability.items():
        by_condition.setdefault(condition, []).append(values)
    out = {}
    for condition, seeds in by_condition.items():
        stderr = clustered_mean(list(np.mean(seeds, axis=0)), clips).stderr
        out[condition] = (np.array([of_seed.mean() for of_seed in seeds]), math.nan if stderr is None else stderr)
    return out


def _deviation(values: NDArray[np.float64]) -> float:
    """Return the standard deviation of some seeds; missing with fewer than two."""
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
