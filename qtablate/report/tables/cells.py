"""Texts that several tables share: counts, intervals, p-values, and what `too few` means."""

from collections.abc import Iterable, Sequence

import pandas as pd

from qtablate.report.rows import Row
from qtablate.report.verdicts import IDENTICAL
from qtablate.table import TOO_FEW, WIDEST, is_uninformative, points

INTERVAL = "95\N{NO-BREAK SPACE}% interval"
"""Head of the column of intervals; it does not break."""


def plural(count: int, noun: str) -> str:
    """Format a count with its noun: `1 item`, `2 items`."""
    return f"{count} {noun}{'s' * (count != 1)}"


def plural_range(counts: Sequence[int], noun: str) -> str:
    """Format sorted counts with their noun: `3 seeds`, `1 to 3 seeds`."""
    return plural(counts[0], noun) if len(counts) == 1 else f"{counts[0]} to {plural(counts[-1], noun)}"


def interval(row: Row) -> str:
    """Format the interval of a difference in points; empty where nothing is compared, `too few` where it says nothing."""
    if row.get("verdict") == IDENTICAL:
        return ""
    if has_too_few(row):
        return TOO_FEW
    return "" if pd.isna(row["ci_low"]) else f"{points(row['ci_low'])} to {points(row['ci_high'])}"


def has_too_few(row: Row) -> bool:
    """Whether there are too few clips or seeds for an interval that says something."""
    if pd.isna(row["stderr"]):
        return not pd.isna(row["difference"])
    return not pd.isna(row["ci_low"]) and is_uninformative((row["ci_high"] - row["ci_low"]) / 2)


def verdict_text(row: Row) -> str:
    """Return the verdict; empty where there is no difference to judge, `too few` where all items are of one clip."""
    return str(row["verdict"]) or ("" if pd.isna(row["difference"]) else TOO_FEW)


def too_few_note(texts: Iterable[str]) -> str:
    """Explain `too few`, where it stands in a table; empty elsewhere."""
    if not any(TOO_FEW in text for text in texts):
        return ""
    return f" {TOO_FEW}: too few clips or seeds for an interval narrower than ±{points(WIDEST, sign=False)} points."
