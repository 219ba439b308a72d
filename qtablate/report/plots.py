"""Plots of a results folder, as PNG files under plots/. matplotlib draws without a window."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.files import atomic_path
from qtablate.report.labels import shown_axes
from qtablate.report.token_ablation import diagnosed_cells
from qtablate.store import Store

MAX_TOKENS = 24
"""Tokens in a plot at most, evenly chosen."""


def attention_plots(store: Store, cells: pd.DataFrame) -> list[Path]:
    """Plot the cross-attention of visual tokens over frames and places, a file per condition, from its first seed.

    A row is a token, a column a frame, and brightness the share of the token's cross-attention at a place.

    Args:
        store: the results folder.
        cells: its frame of cells.

    Returns:
        The files that were written.
    """
    paths: list[Path] = []
    shown = shown_axes(cells)
    for key in diagnosed_cells(store, cells):
        row = cells.loc[cells["key"] == key].iloc[0]
        path = store.table_file("plots") / f"attention-{'-'.join(str(row[axis]) for axis in shown)}.png"
        if path not in paths:
            tokens, accumulation = row["extra_num_query_tokens"], row["accumulate_grad_batches"]
            title = f"{tokens} extra tokens, accumulation {accumulation}, seed {row['seed']}"
            _plot_attention(path, pd.read_csv(store.cell_file(key, "attention.csv")), title)
            paths.append(path)
    return paths


def attention_shares(attention: pd.DataFrame) -> NDArray[np.float64]:
    """Return attention.csv as (tokens, frames, rows, columns); its last column is the last place of the last frame."""
    names = [str(name) for name in attention if str(name).startswith("place_")]
    shape = [int(part) + 1 for part in names[-1].split("_")[1:]]
    return attention[names].to_numpy(np.float64).reshape(len(attention), *shape)


def _plot_attention(path: Path, attention: pd.DataFrame, title: str) -> None:
    """Draw one plot and write it."""
    from matplotlib.figure import Figure

    chosen = attention.iloc[np.unique(np.linspace(0, len(attention) - 1, min(MAX_TOKENS, len(attention))).round().astype(int))]
    shares = attention_shares(chosen)
    tokens, frames, side, _ = shares.shape
    canvas = np.full((tokens * (side + 1), frames * (side + 1)), np.nan)
    for token in range(tokens):
        for frame in range(frames):
            top, left = token * (side + 1), frame * (side + 1)
            canvas[top : top + side, left : left + side] = shares[token, frame]
    figure = Figure(figsize=(1.6 + 0.55 * frames, 1.2 + 0.42 * tokens), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(canvas, cmap="viridis", vmin=0)
    middle = (side - 1) / 2
    axes.set_xticks([frame * (side + 1) + middle for frame in range(frames)], [str(frame + 1) for frame in range(frames)])
    labels = [f"{'extra' if row['extra'] else 'base'} {int(row['token'])}" for _, row in chosen.iterrows()]
    axes.set_yticks([token * (side + 1) + middle for token in range(tokens)], labels, fontsize=7)
    axes.set_xlabel("frame")
    axes.set_title(f"Cross-attention of visual tokens\n{title}", fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axes, label="share of cross-attention", shrink=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
