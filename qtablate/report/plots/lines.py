"""Lines over the levels of one axis, a series per combination of the other axes' levels."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from qtablate import axes
from qtablate.report.labels import AXIS_LABELS, condition_label
from qtablate.report.plots.style import series_style
from qtablate.report.rows import Row, records_of

MAX_SERIES = 6
"""Lines in a plot; more are averaged."""
_SPREAD, _BESIDE = 0.15, 0.45
"""Distance of neighboring series on the axis of levels, so that their intervals do not cover each other; and that of the seeds
from their mean, as a share of it."""


@dataclass(frozen=True, slots=True)
class Lines:
    """The series of a plot over the levels of an axis."""

    levels: tuple[axes.Level, ...]
    """Of the axis, in their order; positions 0, 1, 2, ... of the plot."""
    means: pd.DataFrame
    """A row per series and level: `series`, `series_label`, `position`, and the columns of the conditions."""
    note: str
    """For the caption: what the series leave out or average."""
    averaged: bool = False
    """Whether a point is the mean of several conditions."""

    @property
    def labels(self) -> list[str]:
        """Of the series."""
        return list(self.means.drop_duplicates("series")["series_label"])


def lines_over(
    conditions: pd.DataFrame, axis: str, by: str, shown: Sequence[str], reference_batch: int, measures: Sequence[str]
) -> Lines | None:
    """Arrange conditions as lines over the levels of an axis; None where it has one level.

    A condition in which an axis has no effect, as the initial value of 0 extra tokens, is on the line of each of its levels.

    Args:
        conditions: a row per finished condition.
        axis: on the horizontal axis.
        by: the axis of the series where there are too many for a line each.
        shown: the axes that name a condition.
        reference_batch: effective batch size that the learning rate is meant for.
        measures: the columns to average then.
    """
    levels = tuple(sorted(set(conditions[axis]), key=float))
    if len(levels) < 2:
        return None
    others = [name for name in shown if name != axis]
    means = _series(conditions, others, reference_batch)
    means["position"] = [levels.index(level) for level in means[axis]]
    means = means.sort_values(["series", "position"], kind="stable", ignore_index=True)
    if means["series"].nunique() <= MAX_SERIES:
        return Lines(levels, means, "")
    if others == [by]:
        chosen, note = _evenly(sorted(set(means[by]), key=float), by)
        means = means[means[by].isin(chosen)].reset_index(drop=True)
        means["series"] = [chosen.index(level) for level in means[by]]
        return Lines(levels, means, note)
    return _averaged(levels, means, by, [name for name in others if name != by], measures)


def draw_lines(panel: Any, lines: Lines, measure: str, dots: pd.DataFrame | None = None, scale: float = 100) -> list[Any]:
    """Draw the lines of a measure with intervals, where there are any, and dots, and return the handles of a legend.

    Args:
        panel: the axes to draw in.
        lines: the series.
        measure: the column to draw, with half its interval in `MEASURE_half`.
        dots: a row per `condition` and seed.
        scale: of the figures; 100 shows shares as percent.
    """
    count = len(lines.labels)
    spread = (_SPREAD if dots is not None else _SPREAD / 5) * min(1, 4 / count)
    handles = []
    for number, (_, rows) in enumerate(lines.means.groupby("series", sort=True)):
        style, offset = series_style(number), (number - (count - 1) / 2) * spread
        place = dict(zip(rows["condition"], rows["position"] + offset, strict=True)) if not lines.averaged else {}
        if dots is not None and place:
            mine = dots[dots["condition"].isin(place) & dots.duplicated("condition", keep=False)]  # one seed is its mean
            panel.plot(
                [place[condition] + _BESIDE * spread for condition in mine["condition"]],
                mine[measure] * scale,
                linestyle="none",
                marker=".",
                markersize=4.5,
                markeredgewidth=0,
                color=style["color"],
                alpha=0.6,
                gid="seeds",
            )
        half = rows[f"{measure}_half"] * scale if f"{measure}_half" in rows else pd.Series(np.nan, rows.index)
        x, y, known = rows["position"] + offset, rows[measure] * scale, half.notna() & rows[measure].notna()
        if known.any():
            panel.errorbar(
                x[known], y[known], half[known], fmt="none", ecolor=style["color"], elinewidth=0.9, capsize=2, capthick=0.9
            )
        [handle] = panel.plot(x, y, **style, gid="means")
        handles.append(handle)
    return handles


def _series(conditions: pd.DataFrame, others: Sequence[str], reference_batch: int) -> pd.DataFrame:
    """Return the rows of every series, those of a condition that is on several lines repeated."""
    rows = records_of(conditions)
    inactive = [axes.inactive_axes({axis.column: row[axis.column] for axis in axes.AXES}, reference_batch) for row in rows]
    keys = dict.fromkeys(tuple(row[name] for name in others) for row in rows)
    members = {
        key: frozenset(
            number
            for number, row in enumerate(rows)
            if all(row[name] == level or name in inactive[number] for name, level in zip(others, key, strict=True))
        )
        for key in keys
    }
    out: list[Row] = []
    kept = [key for key in keys if not any(members[key] < other for other in members.values())]
    for series, key in enumerate(sorted(kept, key=_order)):
        label = condition_label(dict(zip(others, key, strict=True)), others)
        out += [{**rows[number], "series": series, "series_label": label} for number in sorted(members[key])]
    return pd.DataFrame(out, columns=[*conditions.columns, "series", "series_label"])


def _averaged(
    levels: tuple[axes.Level, ...], means: pd.DataFrame, by: str, others: Sequence[str], measures: Sequence[str]
) -> Lines | None:
    """Average over all axes but two; only over combinations of their levels that stand at every level of the axis."""
    correct = means[~means["incorrect"]]
    whole = correct.groupby("series")["position"].transform("nunique") == len(levels)
    kept = correct[whole]
    chosen = sorted(set(kept[by]), key=float)
    if not chosen:
        return None
    varied = ", ".join(AXIS_LABELS[name] for name in others)
    note = f" Each point is the mean over all conditions with its two levels (over {varied}), without an interval."
    left_out = means["condition"].nunique() - kept["condition"].nunique()
    if left_out:
        note += f" {left_out} conditions that break a rule of accumulation or lack a counterpart at some level are left out."
    chosen, fewer = _evenly(chosen, by)
    note += fewer
    rows: list[Row] = []
    for series, level in enumerate(chosen):
        for position, group in kept[kept[by] == level].groupby("position"):
            row: Row = {"series": series, "series_label": condition_label({by: level}, [by]), "position": position}
            rows.append(row | {name: group[name].mean() for name in measures} | {"condition": -1})
    return Lines(levels, pd.DataFrame(rows), note, averaged=True)


def _evenly(levels: Sequence[axes.Level], axis: str) -> tuple[list[axes.Level], str]:
    """Return at most MAX_SERIES levels, evenly chosen, the first and the last among them, and a note on it for the caption."""
    if len(levels) <= MAX_SERIES:
        return list(levels), ""
    places = np.linspace(0, len(levels) - 1, MAX_SERIES).round().astype(int)
    return [levels[place] for place in places], f" {MAX_SERIES} of the {len(levels)} levels of {AXIS_LABELS[axis]} are shown."


def _order(key: Sequence[axes.Level]) -> tuple[tuple[float, str], ...]:
    """Sort numbers by size, before names."""
    return tuple((math.inf, level) if isinstance(level, str) else (float(level), "") for level in key)
