"""Diagnostics of extra query tokens, from the files that `--diagnose` writes: diversity, ablation and attention."""

import pandas as pd

from qtablate.report.extra_tokens import extra_state
from qtablate.report.folder import AXES
from qtablate.report.rows import Row
from qtablate.report.token_ablation import diagnosed_cells, token_ablation_frame
from qtablate.store import Store

_DIVERSITY = ("query_rank", "query_cosine", "output_rank", "output_cosine", "moved", "moved_base")
"""Fields of records.QueryDiversity."""
COLUMNS = (
    *AXES,
    "seeds",
    *_DIVERSITY,
    "moved_relative",
    "attention_base",
    "attention_extra",
    "min_sufficient_tokens",
    "change_without_extra",
    "change_without_base",
    "extra_state",
)


def query_diagnostics_frame(store: Store, cells: pd.DataFrame, margin: float) -> pd.DataFrame:
    """Return a row per condition with extra tokens, mean over seeds. Changes of accuracy are against the whole model.

    Args:
        store: the results folder.
        cells: its frame of cells.
        margin: `min_sufficient_tokens` is the fewest first extra tokens that keep the accuracy within this share.
    """
    keys, ablations = diagnosed_cells(store, cells), token_ablation_frame(store, cells)
    rows = []
    for condition, group in cells[cells["key"].isin(keys)].groupby(list(AXES), sort=False):
        diversities = [_read_diversity(store, str(key)) for key in group["key"]]
        known = [diversity for diversity in diversities if diversity]
        if not known:
            continue
        row: Row = dict(zip(AXES, condition, strict=True)) | {"seeds": len(known)}
        for name in _DIVERSITY:
            values = [diversity[name] for diversity in known if diversity[name] is not None]
            row[name] = sum(values) / len(values) if values else None
        row["moved_relative"] = row["moved"] / row["moved_base"] if row["moved_base"] else None
        attention = pd.concat([pd.read_csv(store.cell_file(str(key), "attention.csv")) for key in group["key"]])
        by_kind = attention.groupby("extra")["from_answer"].sum() / len(known)
        row["attention_base"], row["attention_extra"] = by_kind.get(0), by_kind.get(1)
        row |= _ablation_figures(ablations[(ablations[list(AXES)] == list(condition)).all(axis=1)], margin)
        if row["min_sufficient_tokens"] is None:
            row["min_sufficient_tokens"] = row["extra_num_query_tokens"]
        row["extra_state"] = extra_state(row["moved_relative"], row["query_cosine"], row["output_cosine"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _ablation_figures(ablations: pd.DataFrame, margin: float) -> Row:
    """Return the changes of accuracy of one condition, and the fewest first extra tokens that keep it within the margin."""
    first = ablations[ablations["ablation"] == "first"].sort_values("end")
    enough = first[first["change"] >= -margin]
    base = ablations[(ablations["ablation"] == "mean") & (ablations["start"] == 0)]
    return {
        "min_sufficient_tokens": int(enough["end"].iloc[0] - first["start"].iloc[0]) if len(enough) else None,
        "change_without_extra": first["change"].iloc[0],
        "change_without_base": base["change"].iloc[0],
    }


def _read_diversity(store: Store, key: str) -> Row | None:
    """Return the diversity in a finished cell's record; None where it was not measured."""
    record = store.read_finished(key)
    diversity = record.figures.get("query_diversity") if record and record.figures else None
    return dict(diversity) if diversity else None
