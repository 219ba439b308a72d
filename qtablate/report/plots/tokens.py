"""Accuracy, and the probability of the correct option, over extra query tokens."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from qtablate.axes import ACCUMULATION, TOKENS
from qtablate.report.answers import PROBABILITY
from qtablate.report.plots.conditions import INTERVALS, MEASURES, condition_frame, plot_axes, seed_frame
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.lines import Lines, draw_lines, lines_over
from qtablate.report.plots.style import INK, ONE_COLUMN, SMALL, TWO_COLUMNS, add_legend, level_ticks, new_figure
from qtablate.report.results import Results
from qtablate.table import points

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tokens(results: Results) -> list[Drawing]:
    """Plot scores over extra tokens, a line per accumulation; nothing where one number of tokens has finished."""
    conditions = condition_frame(results)
    lines = lines_over(
        conditions, TOKENS.column, ACCUMULATION.column, plot_axes(results), results.sweep.reference_batch, MEASURES
    )
    if lines is None:
        return []
    dots = seed_frame(results, conditions)
    measures = [measure for measure in MEASURES if lines.means[measure].notna().any()]
    caption = (
        f"Scores over the number of extra query tokens at {results.sweep.settings.budget_in_words} per cell; levels are evenly "
        "spaced. " + line_caption(conditions, lines, dots)
    )
    data = conditions[["blind_accuracy", "chance"]]
    return [
        Drawing(
            "tokens",
            "Scores over extra query tokens",
            caption,
            fingerprint(lines.means, dots, data, ",".join(measures)),
            partial(_draw, lines, dots, data, measures),
        )
    ]


def line_caption(conditions: pd.DataFrame, lines: Lines, dots: pd.DataFrame) -> str:
    """Say what points, dots, bars and reference lines of a plot of lines are."""
    seeds = dots.groupby("condition").size()
    count = f"{seeds.min()}" if seeds.min() == seeds.max() else f"{seeds.min()} to {seeds.max()}"
    means = (
        "Points: one seed each." if count == "1" else f"Lines: means over seeds ({count} each); dots beside them: the seeds."
    )
    parts = [*([] if lines.averaged else [means, INTERVALS]), lines.note.strip()]
    blind = conditions["blind_accuracy"].dropna()
    if len(blind):
        low, high = points(blind.min(), sign=False), points(blind.max(), sign=False)
        among = "" if low == high else f" ({low} to {high} % among conditions)"
        parts.append(f"Dashed: accuracy without the video, {points(blind.mean(), sign=False)} %{among}.")
    if conditions["chance"].notna().any():
        parts.append(f"Dotted: chance, {points(conditions['chance'].mean(), sign=False)} %.")
    return " ".join(part for part in parts if part)


def reference_lines(panel: Any, blind: float, chance: float) -> None:
    """Draw the accuracy without video and chance, each with its name behind the right end of its line."""
    known = [(100 * value, name, dash) for value, name, dash in ((chance, "chance", ":"), (blind, "blind", "--"))]
    known = sorted((value, name, dash) for value, name, dash in known if value == value)
    for place, (value, name, dash) in enumerate(known):
        above = place == len(known) - 1
        panel.axhline(value, color=INK, linestyle=dash, linewidth=0.9, gid=name)
        panel.annotate(
            name,
            (1, value),
            (3, 0) if len(known) == 1 else (3, 0.5 if above else -0.5),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            ha="left",
            va="center" if len(known) == 1 else "bottom" if above else "top",
            fontsize=SMALL,
            annotation_clip=False,
        )
    low, high = panel.get_ylim()
    panel.set_ylim(min([low, *(value - 0.03 * (high - low) for value, _, _ in known)]), high)


def _draw(lines: Lines, dots: pd.DataFrame, references: pd.DataFrame, measures: list[str]) -> "Figure":
    names = {"accuracy": "accuracy (%)", PROBABILITY: "probability of correct option (%)"}
    figure, panels = new_figure(TWO_COLUMNS if len(measures) > 1 else ONE_COLUMN, 2.9, len(measures))
    handles: list[Any] = []
    for panel, measure in zip(panels, measures, strict=True):
        handles = draw_lines(panel, lines, measure, dots)
        blind = references["blind_accuracy"].mean() if measure == "accuracy" else float("nan")
        reference_lines(panel, blind, references["chance"].mean())
        level_ticks(panel, [TOKENS.show(level) for level in lines.levels], "extra query tokens")
        panel.set_ylabel(names[measure])
    add_legend(figure, handles, lines.labels)
    return figure
