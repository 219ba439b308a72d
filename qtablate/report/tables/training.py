"""The table of how the cells trained."""

import pandas as pd

from qtablate.report.extra_tokens import COPIES, FROZEN, remedy
from qtablate.report.labels import axis_labels, condition_label, level_labels, shown_axes
from qtablate.report.noise_scale import FEWEST_WINDOWS, QUARTERS, UNKNOWN_FACTOR, is_known
from qtablate.report.rows import Row, records_of
from qtablate.table import TOO_FEW, ColumnNote, Table, number, percent

_COLUMNS = (
    "batch",
    "samples",
    "steps",
    "supervised tokens",
    "peak lr",
    "images %",
    "gradient noise scale",
    "noise scale by quarter",
    "smaller batch",
    "predicted sample cost",
    "measured sample cost",
    "update extra/base %",
    "cosine",
    "rank",
    "extra state",
)
_OPTIONAL = (
    "rank",
    "cosine",
    "update extra/base %",
    "peak lr",
    "images %",
    "extra state",
    "noise scale by quarter",
    "predicted sample cost",
    "measured sample cost",
    "smaller batch",
    "gradient noise scale",
)
_UNKNOWN = "?"
"""A noise scale of a quarter that is unknown, beside others."""


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
    warnings = [f"Warning: {condition_label(row, shown)}: {warning(row)}" for row in records if row["extra_state"]]
    return Table(
        "Training",
        names,
        tuple(tuple(row[place] for place in used) for row in rows),
        _note(training),
        optional=tuple(name for name in _OPTIONAL if name in names),
        about=_about(training),
        remarks="\n".join(warnings),
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
        _course_text(row),
        number(row["smaller_batch"]),
        _cost_text(row, "predicted"),
        _cost_text(row, "measured"),
        " / ".join(updates) if updates[0] else "",
        number(row["extra_cosine"], 2),
        number(row["extra_rank"], 1),
        str(row["extra_state"]),
    )


def _noise_text(row: Row) -> str:
    """Format a noise scale with its interval, or its lower end alone; `too few` where neither is known."""
    scale, low, high = (row[f"noise_scale{part}"] for part in ("", "_ci_low", "_ci_high"))
    if pd.isna(row["noise_blocks"]) or not row["noise_blocks"]:
        return ""
    if is_known(row):
        return f"{number(scale)} ({number(low)} to {number(high)})"
    return TOO_FEW if pd.isna(low) or not low or not pd.isna(high) else f"over {number(low)}"


def _course_text(row: Row) -> str:
    """Format the noise scales of the quarters."""
    texts = [number(row[name]) or _UNKNOWN for name in QUARTERS]
    return "" if set(texts) == {_UNKNOWN} else " / ".join(texts)


def _cost_text(row: Row, kind: str) -> str:
    """Format a cost in samples with its interval, as far as they are known."""
    cost, low, high = (row[f"sample_cost_{kind}{part}"] for part in ("", "_ci_low", "_ci_high"))
    texts = ["" if pd.isna(cost) else f"{cost:.2f}", "" if pd.isna(low) else f"({low:.2f} to {high:.2f})"]
    return " ".join(text for text in texts if text)


def _note(training: pd.DataFrame) -> str:
    """Explain the table."""
    note = "Samples, steps, supervised tokens: per cell, mean over seeds."
    skipped = int(training["skipped_windows"].sum() + training["overflows"].sum())
    if skipped:
        note += (
            f" {skipped} windows, counted per seed over all rows, made no step: they had no supervised token or no finite fp16 "
            "gradient."
        )
    return note


def _about(training: pd.DataFrame) -> tuple[ColumnNote, ...]:
    """Explain columns."""
    text = "Images: % of the samples of a window, with the standard deviation over windows."
    about = [ColumnNote(("images %",), text), *_about_noise(training)]
    if training["smaller_batch"].notna().any():
        about += [
            ColumnNote(
                ("predicted sample cost", "measured sample cost"),
                "Sample cost: samples that the batch needs over those that the smaller batch needs, at otherwise equal levels.",
            ),
            ColumnNote(("predicted sample cost",), "Predicted: by the gradient noise scale."),
            ColumnNote(
                ("measured sample cost",),
                "Measured: to the same training loss, mean and 95 % interval over seeds. One of the two batches passes that "
                "loss before its learning rate has decayed, so that a measured cost above 1 is a lower bound, and one below 1 "
                "an upper bound.",
            ),
        ]
    if training["extra_rank"].notna().any():
        text = "Update: length of a step relative to the norm of the tokens, second half."
        about += [
            ColumnNote(("update extra/base %",), text),
            ColumnNote(("cosine",), "Cosine: mean over pairs of extra tokens at the end."),
            ColumnNote(("rank",), "Rank: effective rank of the extra tokens at the end."),
        ]
    return tuple(about)


def _about_noise(training: pd.DataFrame) -> list[ColumnNote]:
    """Explain the gradient noise scale, where it was measured."""
    texts = [_noise_text(row) for row in records_of(training)]
    if not any(texts):
        return []
    text = (
        "Gradient noise scale: in samples (McCandlish et al. 2018), over the second half of the steps, with a 95 % interval; "
        "it is measured where a window has several micro-batches. It speaks of optimizer steps, and it ignores AdamW and the "
        "learning rate: it does not say which batch is best for a fixed number of samples."
    )
    if TOO_FEW in texts:
        text += (
            f" {TOO_FEW} steps: fewer than {FEWEST_WINDOWS} windows, one window that outweighs the others, or an interval that "
            f"is wider than a factor of {UNKNOWN_FACTOR} either way."
        )
    if any(one.startswith("over") for one in texts):
        text += " over: noise hides the gradient, so that the interval has a lower end only."
    about = [ColumnNote(("gradient noise scale",), text)]
    if training[list(QUARTERS)].notna().any(axis=None):
        text = f"By quarter: over each quarter of the steps ({_UNKNOWN}: unknown)."
        about.append(ColumnNote(("noise scale by quarter",), text))
    return about


def warning(row: Row) -> str:
    """Say what is wrong with the extra tokens of a condition, and what to do about it."""
    texts = {
        COPIES: "the extra tokens are copies of one another: they act as few.",
        FROZEN: "the extra tokens are frozen: they hardly move while the base queries do.",
    }
    return f"{texts[row['extra_state']]} {remedy(row['extra_state'], row['extra_init'], row['extra_lr'])}"
