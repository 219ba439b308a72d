"""Accuracy over gradient accumulation at an equal budget."""

from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from qtablate.axes import ACCUMULATION, TOKENS
from qtablate.report.plots.conditions import MEASURES, condition_frame, plot_axes, seed_frame
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.lines import Lines, draw_lines, lines_over
from qtablate.report.plots.style import TWO_COLUMNS, add_legend, level_ticks, new_figure
from qtablate.report.plots.tokens import line_caption, reference_lines
from qtablate.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NARROW = 4.6
"""Width in inches."""


def plot_accumulation(results: Results) -> list[Drawing]:
    """Plot the accuracy over accumulated micro-batches, a line per number of tokens; nothing where one level has finished."""
    conditions = condition_frame(results)
    lines = lines_over(
        conditions, ACCUMULATION.column, TOKENS.column, plot_axes(results), results.sweep.reference_batch, MEASURES
    )
    if lines is None:
        return []
    dots = seed_frame(results, conditions)[["condition", "seed", "accuracy"]]
    budget, fixed = results.sweep.settings.budget_in_words, results.sweep.config.grid.batch_size_is
    title = f"Equal budget: {budget} per cell"
    batches = [
        sorted(set(conditions.loc[conditions[ACCUMULATION.column] == level, "effective_batch_size"])) for level in lines.levels
    ]
    ticks = [
        f"{ACCUMULATION.show(level)}\nbatch {'/'.join(f'{batch:g}' for batch in sizes)}" if len(sizes) <= 2 else f"{level:g}"
        for level, sizes in zip(lines.levels, batches, strict=True)
    ]
    caption = (
        f"Accuracy over accumulate_grad_batches at an equal budget of {budget} per cell, fixed {fixed} size; `batch` is the "
        "effective batch size, in samples per optimizer step. " + line_caption(conditions, lines, dots)
    )
    data = conditions[["blind_accuracy", "chance"]]
    return [
        Drawing(
            "accumulation",
            "Accuracy over gradient accumulation",
            caption,
            fingerprint(lines.means, dots, data, title, *ticks),
            partial(_draw, lines, dots, data, title, ticks),
        )
    ]


def _draw(lines: Lines, dots: pd.DataFrame, references: pd.DataFrame, title: str, ticks: list[str]) -> "Figure":
    width = _NARROW if len(ticks) <= 5 else TWO_COLUMNS
    figure, [panel] = new_figure(width, 3.0)
    handles = draw_lines(panel, lines, "accuracy", dots)
    reference_lines(panel, references["blind_accuracy"].mean(), references["chance"].mean())
    level_ticks(panel, ticks, "accumulate_grad_batches")
    panel.set_ylabel("accuracy (%)")
    panel.set_title(title)
    add_legend(figure, handles, lines.labels)
    return figure
