"""Pictures of a results folder, as PNG files under plots/. matplotlib without a window."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.files import aside
from qtablate.report.frames import AXES
from qtablate.report.labels import shown_axes
from qtablate.report.token_ablation import diagnosed
from qtablate.store import Store

MOST = 24  # tokens in a picture


def look_pictures(store: Store, cells: pd.DataFrame) -> list[Path]:
    """Where the visual tokens of each condition look, a file a condition, from its first seed: a row a token, a column a
    frame, brightness its share of the cross-attention at a place."""
    out = []
    for key in diagnosed(store, cells):
        row = cells.loc[cells["key"] == key].iloc[0]
        path = store.table_file("plots") / f"looks-{'-'.join(str(row[axis]) for axis in shown_axes(cells))}.png"
        if path not in out:
            looks = pd.read_csv(store.cell_file(key, "attention.csv"))
            title = f"{row[AXES[0]]} extra tokens, accumulation {row[AXES[1]]}, seed {row['seed']}"
            _draw_looks(path, looks, title)
            out.append(path)
    return out


def shares(looks: pd.DataFrame) -> NDArray[np.float64]:
    """(tokens, frames, rows, columns) of attention.csv, whose last column is the last place of the last frame."""
    names = [str(name) for name in looks if str(name).startswith("place_")]
    last = [int(part) + 1 for part in names[-1].split("_")[1:]]
    return looks[names].to_numpy(np.float64).reshape(len(looks), *last)


def _draw_looks(path: Path, looks: pd.DataFrame, title: str) -> None:
    from matplotlib.figure import Figure

    shown = looks.iloc[np.unique(np.linspace(0, len(looks) - 1, min(MOST, len(looks))).round().astype(int))]
    values = shares(shown)
    tokens, frames, side, _ = values.shape
    canvas = np.full((tokens * (side + 1), frames * (side + 1)), np.nan)
    for t in range(tokens):
        for f in range(frames):
            canvas[t * (side + 1) : t * (side + 1) + side, f * (side + 1) : f * (side + 1) + side] = values[t, f]
    figure = Figure(figsize=(1.6 + 0.55 * frames, 1.2 + 0.42 * tokens), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(canvas, cmap="viridis", vmin=0)
    middle = (side - 1) / 2
    axes.set_xticks([f * (side + 1) + middle for f in range(frames)], [str(f + 1) for f in range(frames)])
    kinds = [f"{'extra' if row['extra'] else 'base'} {int(row['token'])}" for _, row in shown.iterrows()]
    axes.set_yticks([t * (side + 1) + middle for t in range(tokens)], kinds, fontsize=7)
    axes.set_xlabel("frame")
    axes.set_title(f"Where tokens look\n{title}", fontsize=9)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=axes, label="share of cross-attention", shrink=0.6)
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
