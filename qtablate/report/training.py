"""How the cells trained, from their train.csv: what they saw, the mix of media in their windows, the gradient noise scale, and
whether the extra query tokens take part."""

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from qtablate.report.frames import AXES
from qtablate.report.labels import heads, levels_of, shown_axes
from qtablate.report.token_ablation import COPIES, FROZEN, remedy
from qtablate.store import Store
from qtablate.table import TOO_FEW, Table, number, percent

COLUMNS = (
    *AXES,
    "effective_batch_size",
    "incorrect",
    "seeds",
    "samples_seen",
    "steps",
    "supervised_tokens",
    "skipped_windows",
    "overflows",
    "peak_learning_rate",
    "image_ratio",
    "image_ratio_sd",
    "extra_update",
    "query_update",
    "extra_cosine",
    "extra_rank",
    "extra_state",
    "noise_scale",
    "noise_scale_ci_low",
    "noise_scale_ci_high",
    "noise_blocks",
    "vs_critical_batch",
)
BLOCKS = 5
"""Of consecutive steps that the second half of each run is cut into: neighbouring steps tell much the same."""
UNKNOWN = 10
"""Factor either way from which on the interval of a noise scale leaves its order of magnitude open."""


def table(store: Store, cells: pd.DataFrame) -> pd.DataFrame:
    """A row a condition, mean of its finished seeds. Shares and updates are of the second half of the steps, where the start is
    forgotten; the mix of media of all of them."""
    rows = []
    for condition, group in cells[cells["status"] == "ok"].groupby(list(AXES), sort=False):
        runs = [pd.read_csv(store.cell_file(str(key), "train.csv")) for key in group["key"]]
        row: dict[str, Any] = dict(zip(AXES, condition, strict=True))
        row |= {name: group[name].iloc[0] for name in ("effective_batch_size", "incorrect", "peak_learning_rate")}
        row["seeds"] = len(runs)
        for name in ("samples_seen", "steps", "supervised_tokens", "skipped_windows", "overflows"):
            row[name] = float(group[name].astype(float).mean())
        row["image_ratio"] = float(np.mean([run["image_ratio"].mean() for run in runs]))
        row["image_ratio_sd"] = float(np.mean([run["image_ratio"].std(ddof=0) for run in runs]))
        late = [run.iloc[len(run) // 2 :] for run in runs]
        for name in ("extra_update", "query_update"):
            row[name] = _mean([float(run[name].mean()) for run in late])
        for name in ("extra_cosine", "extra_rank"):
            row[name] = _mean([float(run[name].iloc[-1]) for run in runs])
        row["extra_state"] = state(row["extra_update"], row["query_update"], row["extra_cosine"])
        one_medium = row["mixing"] != "mixed" and 0 < row["image_ratio"] < 1
        row |= noise_scale([] if one_medium else late)
        row["vs_critical_batch"] = _beside(
            float(row["effective_batch_size"]), row["noise_scale_ci_low"], row["noise_scale_ci_high"]
        )
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def state(extra_update: float | None, query_update: float | None, extra_cosine: float | None) -> str:
    """What extra tokens that are no use are called; empty for sound ones, and where there are none."""
    if extra_update is None:
        return ""
    if query_update and extra_update < FROZEN * query_update:
        return "frozen"
    return "copies" if extra_cosine is not None and extra_cosine > COPIES else ""


def noise_scale(runs: list[pd.DataFrame]) -> dict[str, float | None]:
    """Of some windows of the seeds' runs: mean variance over mean signal, in samples, with a 95 % interval by leaving out one
    block of steps at a time (jackknife of the logarithm). Missing where no window tells, or where the signal drowns."""
    missing: dict[str, float | None] = dict.fromkeys(("noise_scale", "noise_scale_ci_low", "noise_scale_ci_high"), None)
    missing["noise_blocks"] = 0
    blocks = []
    for run in runs:
        known = run[["grad_signal", "grad_noise"]].dropna().to_numpy(np.float64)
        blocks += (
            [block.sum(axis=0) for block in np.array_split(known, min(BLOCKS, len(known))) if len(block)] if len(known) else []
        )
    if len(blocks) < 2:
        return missing
    sums = np.array(blocks)
    signal, noise = sums.sum(axis=0)
    left_out = sums.sum(axis=0) - sums
    if signal <= 0 or noise <= 0 or (left_out <= 0).any():
        return {**missing, "noise_blocks": len(blocks)}
    logs = np.log(left_out[:, 1] / left_out[:, 0])
    spread = math.sqrt((len(logs) - 1) / len(logs) * float(((logs - logs.mean()) ** 2).sum()))
    reach = min(float(stats.t.ppf(0.975, len(logs) - 1)) * spread, 300.0)  # beyond it a float ends
    scale = float(noise / signal)
    return {
        "noise_scale": scale,
        "noise_scale_ci_low": scale * math.exp(-reach),
        "noise_scale_ci_high": scale * math.exp(reach),
        "noise_blocks": len(blocks),
    }


def _beside(batch: float, low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return "below" if batch < low else "above" if batch > high else "near"


def _mean(values: list[float]) -> float | None:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def sheet(table: pd.DataFrame) -> Table | None:
    """A row a condition: what it saw and how it trained."""
    if table.empty:
        return None
    shown = shown_axes(table)
    rows, warnings = [], []
    for row in table.to_dict("records"):
        named = levels_of({str(name): value for name, value in row.items()}, shown)
        updates = ["" if pd.isna(row[name]) else f"{100 * row[name]:.2g}" for name in ("extra_update", "query_update")]
        rows.append(
            (
                *named,
                number(row["effective_batch_size"]),
                number(row["samples_seen"]),
                number(row["steps"]),
                number(row["supervised_tokens"]),
                "" if pd.isna(row["peak_learning_rate"]) else f"{row['peak_learning_rate']:.3g}",
                percent(row["image_ratio"])
                + ("" if pd.isna(row["image_ratio_sd"]) else f" sd {percent(row['image_ratio_sd'])}"),
                _scale(row),
                " / ".join(updates) if updates[0] else "",
                number(row["extra_cosine"], 2),
                number(row["extra_rank"], 1),
                str(row["extra_state"]),
            )
        )
        if row["extra_state"]:
            warnings.append(f"{' / '.join(named)} ({' / '.join(heads(shown))}) {_mends(row)}")
    columns = (
        *heads(shown),
        "batch",
        "samples",
        "steps",
        "supervised tokens",
        "peak rate",
        "images %",
        "gradient noise scale",
        "moved extra/base %",
        "cosine",
        "rank",
        "extra tokens are",
    )
    note = "samples, steps, supervised tokens: of a cell, mean of the seeds; images: of a window's samples, sd over windows"
    if table["noise_scale"].notna().any():
        note += (
            "; gradient noise scale: in samples (McCandlish et al. 2018), over the second half of the steps, 95 % interval, "
            "told where several micro-batches share a window; it speaks of optimizer steps, not of samples: below it a larger "
            "batch makes fewer steps nearly enough, above it hardly. It says nothing of which batch is best for a fixed number "
            "of samples, and ignores AdamW and the learning rate"
        )
        if any(_scale(row) == TOO_FEW for row in table.to_dict("records")):
            note += f"; {TOO_FEW} steps: the interval is wider than a factor of {UNKNOWN} either way"
    if table["extra_rank"].notna().any():
        note += (
            "; moved: by a step, relative to their norm, second half; cosine (mean over pairs) and effective rank: of the "
            "extra tokens at the end"
        )
    skipped = int(table["skipped_windows"].sum() + table["overflows"].sum())
    if skipped:
        note += f"; windows without a step, for want of supervised tokens or of finite fp16 gradients: {skipped} a seed in all"
    note += "." + "".join(f"\nWarning: {one}" for one in warnings)
    used = [n for n, _ in enumerate(columns) if any(row[n] for row in rows)]
    keep = {"batch", "samples", "steps", "supervised tokens"}
    optional = (
        "rank",
        "cosine",
        "moved extra/base %",
        "peak rate",
        "images %",
        "extra tokens are",
        "gradient noise scale",
    )
    names = tuple(columns[n] for n in used)
    return Table(
        "Training",
        names,
        tuple(tuple(row[n] for n in used) for row in rows),
        note,
        optional=tuple(name for name in optional if name in names and name not in keep),
    )


def _mends(row: dict[Any, Any]) -> str:
    says = {
        "copies": "have extra tokens that are copies of one another: they act as few.",
        "frozen": "have frozen extra tokens: they hardly move while the base queries do.",
    }
    return f"{says[row['extra_state']]} {remedy(row['extra_state'], row['extra_init'], row['extra_lr'])}"


def _scale(row: dict[Any, Any]) -> str:
    scale, low, high = (row[f"noise_scale{part}"] for part in ("", "_ci_low", "_ci_high"))
    if pd.isna(scale):
        return ""
    return TOO_FEW if high > UNKNOWN**2 * low else f"{number(scale)} ({number(low)} to {number(high)})"
