"""Cross-attention of visual tokens over frames and places, a plot per condition, all on one scale."""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.report.labels import condition_label, shown_axes
from qtablate.report.plots.drawing import Drawing, fingerprint
from qtablate.report.plots.style import SMALL, TWO_COLUMNS, new_figure
from qtablate.report.results import Results
from qtablate.report.rows import Row, records_of
from qtablate.report.token_ablation import diagnosed_cells
from qtablate.store import Store

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_TOKENS = 24
"""Tokens in a plot at most, evenly chosen."""


def plot_attention(results: Results) -> list[Drawing]:
    """Plot the cross-attention of every condition that ran with --diagnose, from its first seed."""
    return [] if results.tables_only else attention_drawings(results.store, results.cells)


def attention_drawings(store: Store, cells: pd.DataFrame) -> list[Drawing]:
    """Return a drawing per condition that ran with --diagnose.

    Args:
        store: the results folder.
        cells: its frame of cells.
    """
    shown = shown_axes(cells)
    chosen: dict[str, tuple[str, Row]] = {}
    by_key = {row["key"]: row for row in records_of(cells)}
    for key in diagnosed_cells(store, cells):
        row = by_key[key]
        chosen.setdefault(f"attention-{'-'.join(str(row[axis]) for axis in shown)}", (key, row))
    keys = [key for key, _ in chosen.values()]
    mark = fingerprint(*(store.cell_file(key, "attention.csv").read_bytes() for key in keys))  # the scale is that of all
    return [
        Drawing(
            name,
            f"Cross-attention of visual tokens: {condition_label(row, shown)}",
            f"Share of each visual token's cross-attention at each place of each frame, of seed {row['seed']}: a row is a "
            "token, a column a frame. All plots of the folder have one scale, which ends at the 99.5th percentile. Of "
            f"more than {MAX_TOKENS} tokens, as many are shown, evenly chosen.",
            fingerprint(mark, key),
            partial(_draw, store, key, keys),
        )
        for name, (key, row) in chosen.items()
    ]


def attention_shares(attention: pd.DataFrame) -> NDArray[np.float64]:
    """Return attention.csv as (tokens, frames, rows, columns); its last column is the last place of the last frame."""
    names = [str(name) for name in attention if str(name).startswith("place_")]
    shape = [int(part) + 1 for part in names[-1].split("_")[1:]]
    return attention[names].to_numpy(np.float64).reshape(len(attention), *shape)


def chosen_tokens(attention: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the tokens that are shown."""
    places = np.linspace(0, len(attention) - 1, min(MAX_TOKENS, len(attention))).round().astype(int)
    return attention.iloc[np.unique(places)]


def _draw(store: Store, key: str, keys: list[str]) -> "Figure":
    frames_of = {other: chosen_tokens(pd.read_csv(store.cell_file(other, "attention.csv"))) for other in keys}
    highest = float(np.quantile(np.concatenate([attention_shares(frame).ravel() for frame in frames_of.values()]), 0.995))
    shares = attention_shares(frames_of[key])  # (tokens, frames, rows, columns)
    tokens, frames, side, across = shares.shape
    canvas = np.full((tokens * (side + 1) - 1, frames * (across + 1) - 1), np.nan)
    for token in range(tokens):
        for frame in range(frames):
            top, left = token * (side + 1), frame * (across + 1)
            canvas[top : top + side, left : left + across] = shares[token, frame]
    width = min(TWO_COLUMNS, 2.1 + 0.42 * frames)
    place = (width - 1.7) / frames
    figure, [panel] = new_figure(width, 0.75 + tokens * place * side / across)
    panel.grid(False)
    image = panel.imshow(canvas, cmap="viridis", vmin=0, vmax=highest or 1.0, interpolation="nearest")
    panel.set_xticks([frame * (across + 1) + (across - 1) / 2 for frame in range(frames)], map(str, range(1, frames + 1)))
    labels = [
        f"{'extra' if extra else 'base'} {int(token)}"
        for extra, token in zip(frames_of[key]["extra"], frames_of[key]["token"], strict=True)
    ]
    panel.set_yticks([token * (side + 1) + (side - 1) / 2 for token in range(tokens)], labels, fontsize=SMALL)
    panel.tick_params(length=0)
    panel.set_xlabel("frame")
    panel.set_ylabel("query token")
    for spine in panel.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=panel, label="share of cross-attention", shrink=0.9, pad=0.02, extend="max")
    bar.outline.set_visible(False)
    return figure
