"""Contrasts in words: `extra tokens: 32 beats 0 by 4.2 points (95 % CI 1.3 to 7.1; accum 1)`."""

import pandas as pd

from qtablate.axes import show_level
from qtablate.report.contrasts import CORRECT_LEVELS, INTERACTION, MAIN
from qtablate.report.labels import AXIS_LABELS
from qtablate.report.rows import Row
from qtablate.report.verdicts import BETTER, EQUIVALENT, IDENTICAL, ITEMS_ONLY, NOT_COMPARABLE, UNDECIDED
from qtablate.table import is_uninformative, points

NO_SEED = "no common seed"


def comparison_label(row: Row) -> str:
    """Name what a contrast compares: `extra tokens 32 - 0`."""
    label = f"{AXIS_LABELS[row['axis']]} {shown_level(row, 'level')} - {shown_level(row, 'baseline')}"
    if row["kind"] != INTERACTION:
        return label
    other = f"{AXIS_LABELS[row['other_axis']]} {show_level(row['other_axis'], row['other_level'])}"
    return f"({label}) at {other} - at {show_level(row['other_axis'], row['other_baseline'])}"


def fixed_levels_label(row: Row) -> str:
    """Name the levels of the other axes: `accum 4`, or `mean of accum 1+4`; correct levels of rules are not named."""
    parts = [part.partition("=")[::2] for part in str(row["fixed_levels"]).split("; ") if part]
    named = [(axis, level) for axis, level in parts if (axis, level) not in CORRECT_LEVELS.items()]
    return ", ".join(f"{'mean of ' if row['kind'] == MAIN else ''}{AXIS_LABELS[axis]} {level}" for axis, level in named)


def contrast_sentence(row: Row) -> str:
    """Say a contrast in a sentence, with its interval."""
    return f"{_subject(row)} {predicate(row)}."


def _subject(row: Row) -> str:
    """Name the axis, or the interaction: what stands before the colon."""
    if row["kind"] == INTERACTION:
        other = f"{AXIS_LABELS[row['other_axis']]} {show_level(row['other_axis'], row['other_level'])} - "
        other += show_level(row["other_axis"], row["other_baseline"])
        name = f"{AXIS_LABELS[row['axis']]} {shown_level(row, 'level')} - {shown_level(row, 'baseline')}"
        return f"interaction of {name} with {other}:"
    return f"{AXIS_LABELS[row['axis']]}:"


def predicate(row: Row) -> str:
    """Say what is known of a difference: `32 beats 0 by 4.2 points (95 % CI 1.3 to 7.1)`."""
    level, baseline = shown_level(row, "level"), shown_level(row, "baseline")
    pair = f"{level} and {baseline}" if row["kind"] != INTERACTION else "the two"
    if row["verdict"] == IDENTICAL:
        return f"{pair} are the same run, with equal losses at every step"
    if row["verdict"] == NOT_COMPARABLE:
        return f"{pair} are not comparable, their budgets differ by more than 1 %"
    if not row["verdict"]:
        return f"{pair}: no verdict, {NO_SEED if pd.isna(row['difference']) else 'all items are of one clip'}"
    size = points(abs(row["difference"]), sign=False)
    where = _where(row)
    if row["verdict"] == EQUIVALENT:
        margin, difference = points(row["margin"], sign=False), points(row["difference"])
        return f"{pair} are equivalent within {margin} points (difference {difference}, {interval_text(row)}{where})"
    if row["verdict"] == UNDECIDED:
        known = f"{points(row['difference'])} points ({interval_text(row)}{where})"
        seen = (
            "no difference could have been detected"
            if is_uninformative(row["mde"])
            else f"smallest reliably detectable difference {points(row['mde'], sign=False)} points"
        )
        name = f"{level} against {baseline} " if row["kind"] != INTERACTION else ""
        return f"{name}undecided, {known}; {seen}"
    if row["kind"] == INTERACTION:
        return f"{points(row['difference'])} points ({interval_text(row)}{where})"
    winner, loser = (level, baseline) if row["verdict"] == BETTER else (baseline, level)
    flipped = row["verdict"] != BETTER
    return f"{winner} beats {loser} by {size} points ({interval_text(row, flipped)}{where})"


def interval_text(row: Row, flipped: bool = False) -> str:
    """Format the interval of a difference: `95 % CI 1.3 to 7.1`; says so where there is none that tells anything.

    Args:
        row: of the difference.
        flipped: whether to give the interval of the baseline minus the level.
    """
    low, high = row["ci_low"], row["ci_high"]
    if pd.isna(low) or is_uninformative((high - low) / 2):
        return "too few clips or seeds for an interval"
    low, high = (-high, -low) if flipped else (low, high)
    return f"95 % CI {points(low, sign=False)} to {points(high, sign=False)}"


def _where(row: Row) -> str:
    """Say at which levels of the other axes, and whether seeds are in the interval."""
    fixed = fixed_levels_label(row)
    one_seed = "one seed, items only" if row["uncertainty"] == ITEMS_ONLY else ""
    return "".join(f"; {part}" for part in (fixed, one_seed) if part)


def shown_level(row: Row, name: str) -> str:
    """Format the `level` or the `baseline` of a contrast."""
    return show_level(row["axis"], row[name])
