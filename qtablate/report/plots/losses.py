"""Training losses over the samples seen."""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtablate.report.folder import AXES
from qtablate.report.plots.conditions import condition_frame, extremes
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.style import PALETTE, TWO_COLUMNS, add_legend, new_figure, series_style
from qtablate.report.results import Results
from qtablate.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CONDITIONS = len(PALETTE)
WINDOWS = 40
"""Windows that a run is averaged in, where its batches are small enough."""


def plot_losses(results: Results) -> list[Drawing]:
    """Plot the training loss of every condition; nothing where the cells' files are gone or none has finished."""
    conditions, cells = condition_frame(results), results.cells
    if results.tables_only or conditions.empty:
        return []
    kept, note = extremes(conditions, MAX_CONDITIONS)
    done = cells.loc[cells["status"] == "ok", ["key", "samples_seen", *AXES]]
    runs = done.merge(kept[[*AXES, "condition", "label", "effective_batch_size"]], on=list(AXES)).sort_values(
        "condition", kind="stable"
    )
    seen = float(runs["samples_seen"].astype(float).max())
    window = loss_window(seen, [int(batch) for batch in runs["effective_batch_size"]])
    caption = (
        f"Training loss over samples seen: means of windows of {window:,} samples, then over seeds; band: from the lowest to "
        f"the highest seed.{note}"
    )
    losses = smoothed_losses(results.store, runs, window)
    return [Drawing("losses", "Training loss", caption, fingerprint(losses), partial(_draw, losses))] if len(losses) else []


def loss_window(samples: float, batches: Sequence[int]) -> int:
    """Return the samples of a window: a multiple of the largest batch, and about a fortieth of the run."""
    largest = max(batches)
    return largest * max(1, math.ceil(samples / WINDOWS / largest))


def smoothed_losses(store: Store, runs: pd.DataFrame, window: int) -> pd.DataFrame:
    """Return a row per condition and window: samples in the middle of it; mean, lowest and highest loss of the seeds.

    Args:
        store: the results folder.
        runs: a row per cell, with `key`, `condition` and `label`.
        window: in samples.
    """
    frames = []
    for key, condition, label in zip(runs["key"], runs["condition"], runs["label"], strict=True):
        steps = pd.read_csv(store.cell_file(str(key), "train.csv"), usecols=["samples_seen", "loss"]).dropna()
        number = (steps["samples_seen"] - 1) // window
        means = steps.groupby(number)["loss"].mean()
        middle = (means.index * window + np.minimum((means.index + 1) * window, steps["samples_seen"].max())) / 2
        frames.append(pd.DataFrame({"samples": middle, "loss": means.to_numpy(), "condition": condition, "label": label}))
    rows = pd.concat(frames, ignore_index=True)
    grouped = rows.groupby(["condition", "label", "samples"], sort=True)["loss"]
    return grouped.agg(["mean", "min", "max"]).reset_index()


def _draw(losses: pd.DataFrame) -> "Figure":
    figure, [panel] = new_figure(TWO_COLUMNS * 0.75, 3.0)
    handles, labels = [], []
    for number, ((_, label), rows) in enumerate(losses.groupby(["condition", "label"], sort=True)):
        style = series_style(number)
        panel.fill_between(rows["samples"], rows["min"], rows["max"], color=style["color"], alpha=0.18, linewidth=0)
        every = max(1, len(rows) // 6)
        [handle] = panel.plot(rows["samples"], rows["mean"], **style, markevery=(number * every // 8, every), gid="losses")
        handles.append(handle)
        labels.append(str(label))
    panel.set_xlim(left=0)
    panel.set_xlabel("samples seen")
    panel.set_ylabel("training loss (nats per token)")
    add_legend(figure, handles, labels)
    return figure
