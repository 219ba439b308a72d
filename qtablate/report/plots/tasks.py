"""What every task gains from the video, per condition, as a heat map."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from qtablate.report.folder import AXES
from qtablate.report.plots.conditions import condition_frame, extremes, short_caption
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.style import SMALL, TWO_COLUMNS, new_figure, text_color
from qtablate.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LONGEST = 40  # letters of a task's label
MAX_CONDITIONS, MAX_PRINTED = 32, 10
"""Columns at most, and columns up to which the figures are printed."""


def plot_tasks(results: Results) -> list[Drawing]:
    """Plot the gain of every task and condition; nothing before a cell has finished."""
    tasks, conditions = results.tasks, condition_frame(results)
    control, name = ("blind_accuracy", "accuracy without the video")
    if tasks[control].isna().all():
        control, name = "chance", "chance"
    tasks = tasks.assign(gain=tasks["accuracy"].astype(float) - tasks[control].astype(float))
    if tasks["gain"].isna().all():
        return []
    kept, note = extremes(conditions, MAX_CONDITIONS)
    merged = tasks.merge(kept[[*AXES, "condition"]], on=list(AXES))
    order = list(dict.fromkeys(merged["task"]))
    gains = merged.groupby(["task", "condition"])["gain"].mean().unstack("condition").reindex(order)
    sizes = merged.groupby("task")["n_items"].max().reindex(order)
    grid = gains.reindex(columns=list(kept["condition"]))
    grid.columns = pd.Index(list(kept["short"]))
    grid.insert(0, "task", [f"{task}  (n {size:.0f})" for task, size in sizes.items()])
    columns = short_caption(kept, results)
    caption = (
        f"Accuracy minus {name}, in points, mean over seeds; n: items of the task. Columns: {columns}. White is 0. "
        f"A single task has few items: its gains are less certain than those over all tasks.{note}"
    )
    label = f"gain over {'blind' if control == 'blind_accuracy' else 'chance'} (points)"
    data = grid.reset_index(drop=True)
    drawn = partial(_draw, data, columns, label)
    return [Drawing("tasks", f"Gain over {name} by task", caption, fingerprint(data, columns, label), drawn)]


def _shortened(task: str) -> str:
    """Return a label that leaves room for the panel; the number of items stands at its end."""
    return task if len(task) <= _LONGEST else f"{task[: _LONGEST - 12]}\N{HORIZONTAL ELLIPSIS}{task[-11:]}"


def _draw(grid: pd.DataFrame, columns: str, label: str) -> "Figure":
    values = 100 * grid.drop(columns="task").to_numpy(np.float64)
    tasks, conditions = values.shape
    printed = conditions <= MAX_PRINTED
    labels = [_shortened(str(task)) for task in grid["task"]]
    longest = 0.068 * max(map(len, labels))  # inches
    names = [str(name) for name in grid.columns[1:]]
    upright = max(0.5, 0.066 * (2 + max(len(level) for name in names for level in name.split("/"))))
    width = min(TWO_COLUMNS, max(3.5, longest + 1.0 + conditions * (upright if printed else 0.2)))
    names, rotation = _column_names(names, (width - longest - 1.0) / conditions)
    letters = max(map(len, names)) if rotation else 2 * (1 + max(name.count("\n") for name in names))
    figure, [panel] = new_figure(width, max(1.5, 0.19 * tasks) + 0.5 + 0.06 * letters)
    limit = float(np.nanmax(np.abs(values))) or 1.0
    mesh = panel.pcolormesh(np.ma.masked_invalid(values), cmap="PuOr_r", vmin=-limit, vmax=limit, edgecolors="none")
    panel.invert_yaxis()
    panel.grid(False)
    panel.set_xticks(np.arange(conditions) + 0.5, names, rotation=rotation)
    panel.set_yticks(np.arange(tasks) + 0.5, labels)
    panel.tick_params(length=0)
    panel.set_xlabel(columns)
    for spine in panel.spines.values():
        spine.set_visible(False)
    if printed:
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                color = text_color(mesh.cmap(mesh.norm(value)))
                panel.text(
                    column + 0.5,
                    row + 0.5,
                    f"{value:+z.1f}".replace("-", "\N{MINUS SIGN}"),
                    ha="center",
                    va="center",
                    fontsize=SMALL,
                    color=color,
                )
    bar = figure.colorbar(mesh, ax=panel, label=label, aspect=30, pad=0.02)
    bar.outline.set_visible(False)
    lowest, highest = min(0.0, float(np.nanmin(values))), max(0.0, float(np.nanmax(values)))
    bar.ax.set_ylim(
        lowest if lowest < highest else -limit, highest if lowest < highest else limit
    )  # no colors that do not occur
    return figure


def _column_names(names: list[str], room: float) -> tuple[list[str], int]:
    """Return the names of columns and their rotation: upright in one line or a level a line, where that fits, else turned.

    Args:
        names: levels with slashes between them.
        room: width of a column in inches.
    """
    characters = 72 * room / (0.62 * SMALL)
    for texts in (names, [name.replace("/", "\n") for name in names]):
        if max(len(line) for text in texts for line in text.split("\n")) < characters:
            return texts, 0
    return names, 90
