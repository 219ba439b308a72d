"""The table of how the cells trained."""

import pandas as pd

from qtablate.report.extra_tokens import COPIES, FROZEN, remedy
from qtablate.report.labels import axis_labels, condition_label, level_labels, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.table import TOO_FEW, Table, number, percent

_COLUMNS = (
    "batch",
    "samples",
    "steps",
    "supervised tokens",
    "peak lr",
    "images %",
    "gradient noise scale",
    "update extra/base %",
    "cosine",
    "rank",
    "extra state",
)
_OPTIONAL = ("rank", "cosine", "update extra/base %", "peak lr", "images %", "extra state", "gradient noise scale")
_UNKNOWN_FACTOR = 10
"""A noise scale whose interval is wider than this factor either way is not shown."""


def training_table(training: pd.DataFrame) -> Table | None:
    """Return a row per condition: what it saw and how it trained; None without any. Empty columns are left out.

    Args:
        training: a row per condition.
    """
    if training.empty:
        return None
    shown = shown_axes(training)
    records = records_of(training)
    rows = [(*level_labels(row, shown), *_texts(row)) for row in records]
    columns = (*axis_labels(shown), *_COLUMNS)
    used = [place for place, _ in enumerate(columns) if any(row[place] for row in rows)]
    names = tuple(columns[place] for place in used)
    warnings = [f"\nWarning: {condition_label(row, shown)}: {warning(row)}" for row in records if row["extra_state"]]
    return Table(
        "Training",
        names,
        tuple(tuple(row[place] for place in used) for row in rows),
        _note(training) + "".join(warnings),
        optional=tuple(name for name in _OPTIONAL if name in names),
    )


def _texts(row: Row) -> tuple[str, ...]:
    """Format the figures of a condition."""
    updates = ["" if pd.isna(row[name]) else f"{100 * row[name]:.2g}" for name in ("extra_update", "query_update")]
    image_sd: str = "" if pd.isna(row["image_ratio_sd"]) else f" sd {percent(row['image_ratio_sd'])}"
    return (
        number(row["effective_batch_size"]),
        number(row["samples_seen"]),
        number(row["steps"]),
        number(row["supervised_tokens"]),
        "" if pd.isna(row["peak_learning_rate"]) else f"{row['peak_learning_rate']:.3g}",
        percent(row["image_ratio"]) + image_sd,
        _noise_text(row),
        " / ".join(updates) if updates[0] else "",
        number(row["extra_cosine"], 2),
        number(row["extra_rank"], 1),
        str(row["extra_state"]),
    )


def _noise_text(row: Row) -> str:
    """Format a noise scale with its interval; `too few` where the interval leaves its order of magnitude open."""
    scale, low, high = (row[f"noise_scale{part}"] for part in ("", "_ci_low", "_ci_high"))
    if pd.isna(scale):
        return ""
    return TOO_FEW if high > _UNKNOWN_FACTOR**2 * low else f"{number(scale)} ({number(low)} to {number(high)})"


def _note(training: pd.DataFrame) -> str:
    """Explain the table."""
    note = (
        "Samples, steps, supervised tokens: per cell, mean over seeds. Images: % of the samples of a window, with the standard "
        "deviation over windows."
    )
    if training["noise_scale"].notna().any():
        note += (
            " Gradient noise scale: in samples (McCandlish et al. 2018), over the second half of the steps, with a 95 % "
            "interval; it is measured where a window has several micro-batches. It speaks of optimizer steps, not of samples: "
            "below it, a larger batch reduces the number of steps almost in proportion; above it, hardly. It does not say "
            "which batch is best for a fixed number of samples, and ignores AdamW and the learning rate."
        )
        if any(_noise_text(row) == TOO_FEW for row in records_of(training)):
            note += f" {TOO_FEW} steps: the interval is wider than a factor of {_UNKNOWN_FACTOR} either way."
    if training["extra_rank"].notna().any():
        note += (
            " Update: length of a step relative to the norm of the tokens, second half. Cosine (mean over pairs) and effective "
            "rank: of the extra tokens at the end."
        )
    skipped = int(training["skipped_windows"].sum() + training["overflows"].sum())
    if skipped:
        note += (
            f" {skipped} windows, counted per seed over all rows, made no step: they had no supervised token or no finite fp16 "
            "gradient."
        )
    return note


def warning(row: Row) -> str:
    """Say what is wrong with the extra tokens of a condition, and what to do about it."""
    texts = {
        COPIES: "the extra tokens are copies of one another: they act as few.",
        FROZEN: "the extra tokens are frozen: they hardly move while the base queries do.",
    }
    return f"{texts[row['extra_state']]} {remedy(row['extra_state'], row['extra_init'], row['extra_lr'])}"
