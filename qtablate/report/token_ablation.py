"""Accuracy with part of the visual tokens alone, from the token_ablation.csv that `--diagnose` writes for each cell."""

import pandas as pd

from qtablate.report.folder import AXES
from qtablate.store import Store

COLUMNS = (*AXES, "ablation", "start", "end", "accuracy", "change", "change_stderr", "n_items", "seeds")


def diagnosed_cells(store: Store, cells: pd.DataFrame) -> list[str]:
    """Return the keys of the finished cells that ran with `--diagnose`."""
    done = [str(key) for key in cells.loc[cells["status"] == "ok", "key"]]
    return [key for key in done if store.cell_file(key, "token_ablation.csv").is_file()]


def token_ablation_frame(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """Return a row per condition and part of its tokens: accuracy without the other tokens, mean over seeds.

    Args:
        store: the results folder.
        cells: its frame of cells.
    """
    keys = diagnosed_cells(store, cells)
    if not keys:
        return pd.DataFrame(columns=list(COLUMNS))
    frames = [pd.read_csv(store.cell_file(key, "token_ablation.csv")).assign(key=key) for key in keys]
    rows = pd.concat(frames, ignore_index=True).merge(cells[["key", *AXES]], on="key")
    grouped = rows.groupby([*AXES, "ablation", "start", "end"], sort=False)
    frame = grouped[["accuracy", "change", "change_stderr"]].mean()
    frame["n_items"], frame["seeds"] = grouped["n_items"].first(), grouped.size()
    return frame.reset_index()
