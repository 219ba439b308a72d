"""Accuracy against what it costs: visual tokens, and training time."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from qtablate.report.folder import AXES
from qtablate.report.plots.conditions import INTERVALS, condition_frame, short_caption
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.style import PALETTE, SMALL, TWO_COLUMNS, lay_out, new_figure
from qtablate.report.results import Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELS = 12
"""Conditions up to which all are named; beyond, those on the front alone."""
_NEAR = 6
"""Places right beside a point; further ones follow."""
_COSTS = (
    ("visual_tokens", "pareto_by_tokens", "visual tokens"),
    ("train_seconds", "pareto_by_time", "training time (s)"),
)


def plot_cost(results: Results) -> list[Drawing]:
    """Plot the Pareto fronts of cost and accuracy; nothing where fewer than two conditions have finished."""
    conditions, cost = condition_frame(results), results.cost
    if len(conditions) < 2 or len(cost) < 2:
        return []
    frame = conditions.merge(cost[[*AXES, *(name for costs in _COSTS for name in costs[:2])]], on=list(AXES))
    frame = frame[["short", "incorrect", "accuracy", "accuracy_half", *(name for costs in _COSTS for name in costs[:2])]]
    panels = [costs for costs in _COSTS if frame[costs[0]].notna().all() and frame[costs[0]].nunique() > 1]
    if not panels:
        return []
    caption = (
        "Accuracy against cost per condition. Filled and connected: on the Pareto front, no other condition is as cheap and "
        "better or cheaper and as good; hollow: the others"
        + ("; crosses: conditions that break a rule of accumulation, on no front" if frame["incorrect"].any() else "")
        + f". Names: {short_caption(conditions, results)}; one without room is left out. {INTERVALS} Training times are as "
        "measured."
        + (f" Of {len(frame)} conditions, those on a panel's front are named and have bars." if len(frame) > MAX_LABELS else "")
    )
    drawn = partial(_draw, frame, panels)
    return [Drawing("pareto", "Accuracy against cost", caption, fingerprint(frame), drawn)]


def _draw(frame: pd.DataFrame, panels: Sequence[tuple[str, str, str]]) -> "Figure":
    figure, axes = new_figure(TWO_COLUMNS if len(panels) > 1 else TWO_COLUMNS / 2, 3.1, len(panels))
    for panel, (cost, front, label) in zip(axes, panels, strict=True):
        x, y = frame[cost].astype(float), 100 * frame["accuracy"]
        half = 100 * frame["accuracy_half"]
        known = half.notna() & (frame[front] | (len(frame) <= MAX_LABELS))
        if known.any():
            panel.errorbar(x[known], y[known], half[known], fmt="none", ecolor="#8c8c8c", elinewidth=0.7, zorder=1)
        on_front = frame[front].astype(bool)
        ordered = frame[on_front].sort_values(cost, kind="stable").index
        panel.plot(x[ordered], y[ordered], "o-", color=PALETTE[0], gid="front", zorder=4)
        others = ~on_front & ~frame["incorrect"]
        if others.any():
            panel.plot(x[others], y[others], "o", color=PALETTE[1], markerfacecolor="none", gid="others", zorder=3)
        if frame["incorrect"].any():
            wrong = frame["incorrect"]
            panel.plot(x[wrong], y[wrong], "x", color=PALETTE[1], gid="incorrect", zorder=3)
        _cost_scale(panel, x)
        panel.margins(x=0.12, y=0.1)
        panel.set_xlabel(f"{label}, log scale" if panel.get_xscale() == "log" else label)
        panel.set_ylabel("accuracy (%)")
    lay_out(figure)  # the place of points is known from here on
    for panel, (cost, front, _) in zip(axes, panels, strict=True):
        _name_points(panel, frame.assign(x=frame[cost].astype(float), y=100 * frame["accuracy"]), front)
    return figure


def _cost_scale(panel: Any, costs: pd.Series) -> None:
    """Use a logarithmic axis where costs span much, and the costs themselves as ticks where they are few whole numbers."""
    distinct = sorted(set(costs))
    if distinct[0] > 0 and distinct[-1] / distinct[0] > 8:
        panel.set_xscale("log")
        places = np.log(distinct)
    else:
        places = np.array(distinct)
    if all(value == int(value) for value in distinct):
        span, kept = 1.25 * (places[-1] - places[0]), [0]
        for number in range(1, len(distinct)):
            if places[number] - places[kept[-1]] >= 0.09 * span:
                kept.append(number)
        panel.set_xticks([distinct[number] for number in kept], [f"{distinct[number]:g}" for number in kept])
        panel.set_xticks([], minor=True)


def _name_points(panel: Any, frame: pd.DataFrame, front: str) -> None:
    """Write the names of points beside them, at the first place around each that covers no point and no other name.

    The line of the front, and bars, are covered only where there is no other place. A name without a place is left out.
    """
    unit = panel.get_figure().dpi / 72  # pixels per point
    pixels = panel.transData.transform(frame[["x", "y"]].to_numpy())
    box = panel.get_window_extent()
    taken = [_around(px, py, 3.5 * unit) for px, py in pixels]
    ends = panel.transData.transform(np.column_stack([frame["x"], frame["y"] + 100 * frame["accuracy_half"].fillna(0)]))
    line = pixels[frame["x"].reset_index(drop=True)[frame[front].to_numpy(bool)].sort_values(kind="stable").index]
    bars = zip(2 * pixels - ends, ends, strict=True)
    on_line, on_bars = (
        [_around(x, y, 0.7 * unit) for start, end in strokes for x, y in np.linspace(start, end, 60)]
        for strokes in (pairwise(line), bars)
    )
    for number, name in enumerate(frame["short"]):
        if len(frame) > MAX_LABELS and not frame[front].iloc[number]:
            continue
        width, height = 0.62 * SMALL * len(name) * unit, 1.15 * SMALL * unit
        px, py = pixels[number]
        gap = 5 * unit
        sides, heights = (gap, -gap - width), (-0.5 * height, 0.3 * height, -1.3 * height, 1.1 * height, -2.1 * height)
        places = [(dx, dy) for dy in heights for dx in sides] + [(-width / 2, gap), (-width / 2, -gap - height)]
        spots = [(px + dx, py + dy, px + dx + width, py + dy + height) for dx, dy in places]
        inside = [
            place
            for place, (left, bottom, right, top) in enumerate(spots)
            if box.x0 <= left and right <= box.x1 + gap and box.y0 <= bottom and top <= box.y1 + gap
        ]
        near = [place for place in inside if place < _NEAR or place >= len(places) - 2]
        for allowed, barred in ((near, [*on_line, *on_bars]), (near, on_line), (inside, on_line), (inside, [])):
            free = [place for place in allowed if not any(_overlap(spots[place], other) for other in (*taken, *barred))]
            if free:
                taken.append(spots[free[0]])
                dx, dy = places[free[0]]
                offset = (dx / unit, dy / unit + 0.15 * SMALL)
                panel.annotate(
                    name,
                    (frame["x"].iloc[number], frame["y"].iloc[number]),
                    offset,
                    textcoords="offset points",
                    fontsize=SMALL,
                    gid="name",
                )
                break


def _around(x: float, y: float, half: float) -> tuple[float, float, float, float]:
    """Return the square of this half-width around a place: left, bottom, right, top."""
    return (x - half, y - half, x + half, y + half)


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two boxes (left, bottom, right, top) share a point."""
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
