"""What the extra tokens hold, from the files that `--diagnose` wrote: likeness, what the first of them are worth, attention."""

from typing import Any

import pandas as pd

from qtablate.report.frames import AXES
from qtablate.store import Store

FROZEN = 0.1
"""Extra tokens that moved less than this share of how far the base ones did are called frozen."""
COPIES = 0.95
"""Mean cosine of pairs, of the queries or of what leaves the Q-Former, above which they are called copies of one another."""
LIKENESS = ("query_rank", "query_cosine", "output_rank", "output_cosine", "moved", "moved_base")
COLUMNS = (
    *AXES,
    "seeds",
    *LIKENESS,
    "moved_relative",
    "attention_base",
    "attention_extra",
    "min_sufficient_tokens",
    "change_without_extra",
    "change_without_base",
    "extra_state",
)
PART_COLUMNS = (*AXES, "ablation", "start", "end", "accuracy", "change", "change_stderr", "n_items", "seeds")


def diagnosed(store: Store, cells: pd.DataFrame) -> list[str]:
    """Keys of the finished cells that were looked at."""
    return [
        str(key)
        for key in cells.loc[cells["status"] == "ok", "key"]
        if store.cell_file(str(key), "token_ablation.csv").is_file()
    ]


def parts(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """A row a condition and part of its tokens: accuracy without the rest, mean over the seeds."""
    keys = diagnosed(store, cells)
    if not keys:
        return pd.DataFrame(columns=list(PART_COLUMNS))
    rows = pd.concat(
        [pd.read_csv(store.cell_file(key, "token_ablation.csv")).assign(key=key) for key in keys], ignore_index=True
    ).merge(cells[["key", *AXES]], on="key")
    named = rows.groupby([*AXES, "ablation", "start", "end"], sort=False)
    out = named[["accuracy", "change", "change_stderr"]].mean()
    out["n_items"], out["seeds"] = named["n_items"].first(), named.size()
    return out.reset_index()


def table(store: Store, cells: pd.DataFrame, margin: float) -> pd.DataFrame:
    """A row a condition with extra tokens. `min_sufficient_tokens`: how few of the first ones keep the accuracy within
    the margin; changes are against the whole model."""
    keys, tried = diagnosed(store, cells), parts(store, cells)
    rows = []
    for condition, group in cells[cells["key"].isin(keys)].groupby(list(AXES), sort=False):
        likeness = [_likeness(store, str(key)) for key in group["key"]]
        known = [one for one in likeness if one]
        if not known:
            continue
        row: dict[str, Any] = dict(zip(AXES, condition, strict=True)) | {"seeds": len(known)}
        for name in LIKENESS:
            values = [one[name] for one in known if one[name] is not None]
            row[name] = sum(values) / len(values) if values else None
        looks = pd.concat([pd.read_csv(store.cell_file(str(key), "attention.csv")) for key in group["key"]])
        by_kind = looks.groupby("extra")["from_answer"].sum() / len(known)
        row["attention_base"], row["attention_extra"] = by_kind.get(0), by_kind.get(1)
        mine = tried[(tried[list(AXES)] == list(condition)).all(axis=1)]
        first = mine[mine["ablation"] == "first"].sort_values("end")
        enough = first[first["change"] >= -margin]
        row["min_sufficient_tokens"] = int(enough["end"].iloc[0] - first["start"].iloc[0]) if len(enough) else row[AXES[0]]
        row["change_without_extra"] = first["change"].iloc[0]
        row["change_without_base"] = mine.loc[(mine["ablation"] == "mean") & (mine["start"] == 0), "change"].iloc[0]
        row["moved_relative"] = row["moved"] / row["moved_base"] if row["moved_base"] else None
        row["extra_state"] = named(row["moved_relative"], row["query_cosine"], row["output_cosine"])
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def named(moved_relative: float | None, query_cosine: float | None, output_cosine: float | None) -> str:
    """What extra tokens that are no use are called; empty for sound ones."""
    if moved_relative is not None and moved_relative < FROZEN:
        return "frozen"
    return "copies" if max(query_cosine or 0.0, output_cosine or 0.0) > COPIES else ""


def remedy(name: str, extra_init: str, extra_lr: float) -> str:
    """What to do about extra tokens that are no use (`frozen`, `copies`), given their initial values and their learning rate as
    a multiple of the others'; empty for sound ones."""
    if name == "copies":
        return "--extra-init normal mends that." if extra_init != "normal" else "They grew alike: fewer may do."
    if name != "frozen":
        return ""
    if extra_lr < 1:
        return "--extra-lr 1 mends that."
    if extra_init != "normal":
        return "--extra-init normal or a longer --warm-up mends that."
    return "A longer --warm-up or a larger --extra-lr may mend that."


def _likeness(store: Store, key: str) -> dict[str, Any] | None:
    record = store.read_finished(key)
    found = record.figures.get("query_diversity") if record and record.figures else None
    return dict(found) if found else None
