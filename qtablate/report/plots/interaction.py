"""What extra tokens gain at each level of accumulation, and how far the gains differ."""

from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from qtablate.axes import ACCUMULATION, TOKENS
from qtablate.report.answers import ACCURACY
from qtablate.report.contrasts import INTERACTION, SIMPLE
from qtablate.report.families import ALL
from qtablate.report.labels import condition_label
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.lines import MAX_SERIES
from qtablate.report.plots.style import INK, TWO_COLUMNS, add_legend, level_ticks, new_figure, series_style
from qtablate.report.results import Results
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import fixed_levels_label
from qtablate.report.verdicts import IDENTICAL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = ("panel", "series_label", "level", "difference", "ci_low", "ci_high")


def plot_interaction(results: Results) -> list[Drawing]:
    """Plot differences against the baseline tokens at each accumulation; nothing without both axes."""
    rows, note = _rows(results.contrasts)
    if len({row["series_label"] for row in rows if row["panel"] == SIMPLE}) < 2:
        return []
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    first = results.contrasts[results.contrasts["axis"] == TOKENS.column].iloc[0]
    baseline = TOKENS.show(first["baseline"])
    caption = (
        f"Left: accuracy minus that of {baseline} extra tokens, at each accumulation. Right: this difference minus that at the "
        "baseline of the accumulation, which is 0 where the two do not interact. Bars: 95 % intervals of the paired "
        "differences over the same items and seeds, clustered by clip, not adjusted for the number of comparisons; a "
        f"difference without a bar has no interval.{note}"
    )
    title = "Interaction of extra tokens and accumulation"
    return [Drawing("interaction", title, caption, fingerprint(frame, baseline), partial(_draw, frame, baseline))]


def _rows(contrasts: pd.DataFrame) -> tuple[list[Row], str]:
    """Return the differences of the tokens, then the interactions with accumulation; and what was left out."""
    chosen = contrasts[(contrasts["outcome"] == ACCURACY) & (contrasts["task"] == ALL) & (contrasts["axis"] == TOKENS.column)]
    chosen = chosen[chosen["verdict"] != IDENTICAL]
    rows = _simple(chosen)
    note = ""
    if len({row["series_label"] for row in rows}) > MAX_SERIES:
        others = _other_levels(rows[0])
        same = [row for row in rows if _other_levels(row) == others]
        labels = list(dict.fromkeys(row["series_label"] for row in same))[:MAX_SERIES]
        rows = [row for row in same if row["series_label"] in labels]
        count = len({row["series_label"] for row in _simple(chosen)})
        note = f" {len(labels)} of {count} combinations of the other axes' levels are shown."
    interactions = chosen[(chosen["kind"] == INTERACTION) & (chosen["other_axis"] == ACCUMULATION.column)]
    levels = list(dict.fromkeys(interactions["other_level"]))
    if len(levels) > MAX_SERIES:
        note += f" Right: the first {MAX_SERIES} of {len(levels)} levels of accumulation."
    for row in records_of(interactions[interactions["other_level"].isin(levels[:MAX_SERIES])]):
        other = {ACCUMULATION.column: int(float(row["other_level"]))}
        base = ACCUMULATION.show(int(float(row["other_baseline"])))
        label = f"{condition_label(other, [ACCUMULATION.column])} - {base}"
        rows.append({**row, "panel": INTERACTION, "series_label": label})
    return rows, note


def _simple(contrasts: pd.DataFrame) -> list[Row]:
    """Return the differences at one level of accumulation each."""
    return [
        {**row, "panel": SIMPLE, "series_label": fixed_levels_label(row)}
        for row in records_of(contrasts[contrasts["kind"] == SIMPLE])
        if f"{ACCUMULATION.column}=" in str(row["fixed_levels"])
    ]


def _other_levels(row: Row) -> set[str]:
    """Return the levels of the axes beside accumulation at which a difference was taken."""
    return {part for part in str(row["fixed_levels"]).split("; ") if not part.startswith(f"{ACCUMULATION.column}=")}


def _draw(frame: pd.DataFrame, baseline: str) -> "Figure":
    panels = [SIMPLE, INTERACTION] if (frame["panel"] == INTERACTION).any() else [SIMPLE]
    figure, axes = new_figure(TWO_COLUMNS if len(panels) > 1 else TWO_COLUMNS * 0.6, 2.9, len(panels))
    levels = sorted(set(frame["level"]), key=float)
    numbers = {label: number for number, label in enumerate(dict.fromkeys(frame["series_label"]))}
    handles: dict[str, Any] = {}
    for panel, kind in zip(axes, panels, strict=True):
        rows = frame[frame["panel"] == kind]
        labels = list(dict.fromkeys(rows["series_label"]))
        panel.axhline(0, color=INK, linewidth=0.8)
        for place, label in enumerate(labels):
            style = series_style(numbers[label])
            mine = rows[rows["series_label"] == label].sort_values("level", key=lambda column: column.astype(float))
            offset = (place - (len(labels) - 1) / 2) * min(0.12, 0.7 / len(labels))
            x, y = mine["level"].map(levels.index) + offset, 100 * mine["difference"]
            known = mine["ci_low"].notna() & mine["difference"].notna()
            bars = 100 * mine.loc[known, ["ci_low", "ci_high"]].sub(mine.loc[known, "difference"], axis=0).abs().to_numpy().T
            if known.any():
                panel.errorbar(x[known], y[known], bars, fmt="none", ecolor=style["color"], elinewidth=0.9, capsize=2)
            [handles[label]] = panel.plot(x, y, **style, gid="differences")
        level_ticks(panel, [TOKENS.show(level) for level in map(int, map(float, levels))], "extra query tokens")
    axes[0].set_ylabel(f"difference from {baseline} extra tokens (points)")
    if len(panels) > 1:
        axes[1].set_ylabel("difference of differences (points)")
    add_legend(figure, list(handles.values()), list(handles))
    return figure
