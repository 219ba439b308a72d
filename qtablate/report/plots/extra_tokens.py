"""Whether extra query tokens train: their effective rank, their likeness and their updates over their number."""

from functools import partial
from typing import TYPE_CHECKING

from qtablate.axes import ACCUMULATION, TOKENS
from qtablate.report.folder import AXES
from qtablate.report.plots.conditions import condition_frame, plot_axes
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.lines import Lines, draw_lines, lines_over
from qtablate.report.plots.style import INK, TWO_COLUMNS, add_legend, level_ticks, new_figure
from qtablate.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MEASURES = {
    "extra_rank": "effective rank",
    "output_rank": "effective rank of outputs",
    "extra_cosine": "mean cosine of pairs",
    "update_ratio": "update relative to base tokens",
}


def plot_extra_tokens(results: Results) -> list[Drawing]:
    """Plot what became of extra tokens; nothing unless conditions with two numbers of them have finished."""
    conditions, training = condition_frame(results), results.training
    conditions = conditions[conditions[TOKENS.column] > 0].reset_index(drop=True)
    columns = ["extra_rank", "extra_cosine", "extra_update", "query_update"]
    frame = conditions.merge(training[[*AXES, *columns]], on=list(AXES))
    frame[columns] = frame[columns].astype(float)
    frame["update_ratio"] = frame["extra_update"] / frame["query_update"].where(frame["query_update"] > 0)
    diagnosed = results.query_diagnostics
    frame["output_rank"] = float("nan")
    if len(diagnosed):
        frame = frame.drop(columns="output_rank").merge(diagnosed[[*AXES, "output_rank"]], on=list(AXES), how="left")
        frame["output_rank"] = frame["output_rank"].astype(float)
    measures = [measure for measure in _MEASURES if frame[measure].notna().any()]
    lines = lines_over(
        frame, TOKENS.column, ACCUMULATION.column, plot_axes(results), results.sweep.reference_batch, list(_MEASURES)
    )
    if lines is None or not measures:
        return []
    caption = (
        "Extra query tokens at the end of training, mean over seeds. Effective rank: the number of independent tokens that "
        "they amount to; dotted: all of them. Cosine: mean over pairs of extra tokens, near 1 where they are copies. Update: "
        "length of their steps relative to their norm in the second half of training, divided by that of the base tokens; "
        f"dotted: 1, as fast as these.{lines.note}"
    )
    if "output_rank" in measures:
        caption += " Effective rank of outputs: of what the Q-Former makes of them, where --diagnose measured it."
    mark = fingerprint(lines.means[["series", "series_label", "position", *measures]], str(lines.levels))
    return [Drawing("extra_tokens", "Health of extra query tokens", caption, mark, partial(_draw, lines, measures))]


def _draw(lines: Lines, measures: list[str]) -> "Figure":
    figure, panels = new_figure(TWO_COLUMNS, 2.7, len(measures))
    handles = []
    for panel, measure in zip(panels, measures, strict=True):
        handles = draw_lines(panel, lines, measure, scale=1)
        if measure.endswith("rank"):
            panel.plot(range(len(lines.levels)), lines.levels, ":", color=INK, linewidth=0.9, gid="most")
            panel.set_ylim(0, 1.06 * max(float(lines.means[measure].max()), float(lines.levels[-1])))
        elif measure == "update_ratio":
            panel.axhline(1, linestyle=":", color=INK, linewidth=0.9)
            panel.set_ylim(0, 1.08 * max(1.0, float(lines.means[measure].max())))
        elif lines.means[measure].max() >= 0:
            panel.set_ylim(min(0.0, float(lines.means[measure].min()) - 0.02), max(1.0, panel.get_ylim()[1]))
        level_ticks(panel, [TOKENS.show(level) for level in lines.levels], "extra query tokens")
        panel.set_ylabel(_MEASURES[measure])
    add_legend(figure, handles, lines.labels)
    return figure
