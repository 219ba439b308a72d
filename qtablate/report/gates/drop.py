"""The gate of a drop: no condition of one folder is surely worse than in another by more than is allowed."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtablate.report.compare import Comparison
from qtablate.report.gates.judgement import ONE_CLIP, ONE_SEED, Judgement, listed, names_of, not_judged
from qtablate.report.rows import Row, records_of
from qtablate.report.tables.cells import plural
from qtablate.report.verdicts import IDENTICAL, ITEMS_ONLY, NOT_COMPARABLE
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.estimate import ALPHA, POWER, Estimate, holm
from qtablate.statistics.power import designs_of, detectable_effect
from qtablate.store import Store
from qtablate.table import is_uninformative, p_text, points


@dataclass(frozen=True, slots=True)
class MaxDrop:
    """What `--max-drop POINTS --against OTHER` asks for."""

    share: float
    """Largest drop of an accuracy that is allowed, as a share."""
    against: Store


def judge_drop(comparison: Comparison, share: float) -> Judgement:
    """Judge whether any condition of the second folder is surely more than `share` worse than in the first.

    One-sided tests of each condition at ALPHA with Holm's adjustment over the conditions; identical answers are not tested.
    """
    rows = records_of(comparison.frame)
    names = names_of(comparison.frame, comparison.frame)
    reasons: dict[str, list[str]] = {}
    for name, row in zip(names, rows, strict=True):
        if why := _why_no_drop(comparison, row):
            reasons.setdefault(why, []).append(name)
    if reasons:
        return not_judged("; ".join(f"{why} ({listed(of)})" for why, of in reasons.items()))
    tested = [number for number, row in enumerate(rows) if row["verdict"] != IDENTICAL]
    adjusted = dict(zip(tested, drop_p([comparison.estimates[number] for number in tested], share), strict=True))
    count = f"{plural(len(rows), 'condition')} compared"
    only = [
        f"{number} only in {name}" for number, name in zip(comparison.only, (comparison.first, comparison.second), strict=True)
    ]
    count += "".join(f", {text}" for text, number in zip(only, comparison.only, strict=True) if number)
    rate = f"fails by chance in at most {100 * ALPHA:g} % of runs where no condition dropped by more than {size(share)}"
    if not tested:
        return Judgement(f"the same answers in both; {count}", True, rate)
    caught = _caught([comparison.estimates[number] for number in tested if rows[number]["paired"]], len(tested), share)
    described = {
        number: f"{size(-rows[number]['difference'])} with {names[number]} (p {p_text(p)})" for number, p in adjusted.items()
    }
    failed = [number for number in tested if adjusted[number] < ALPHA]
    if failed:
        return Judgement(f"drops of {listed([described[number] for number in failed])}; {count}", False, rate + caught)
    largest = min(tested, key=lambda number: rows[number]["difference"])
    found = f"largest drop {described[largest]}" if rows[largest]["difference"] < 0 else "no condition is worse"
    return Judgement(f"{found}; {count}", True, rate + caught)


def drop_p(estimates: Sequence[Estimate], share: float) -> list[float]:
    """Return the adjusted one-sided p-values against drops of `share` or less.

    Args:
        estimates: second folder minus first, of each condition.
        share: as a share of the items.
    """
    return holm([dataclasses.replace(one, value=-one.value).p_above(share) for one in estimates])


def _caught(estimates: Sequence[Estimate], tests: int, share: float) -> str:
    """Say which drop is caught, where that can be computed: of means that are paired."""
    if not estimates:
        return ""
    levels = 2 * ALPHA / tests * np.array([one.error_share or math.nan for one in estimates])  # those of two sides
    over = float(detectable_effect(designs_of(estimates), levels).max())
    if is_uninformative(over):
        return "; no drop is caught reliably"
    return f"; a drop of {size(over + share)} of any one condition that is paired is caught in {100 * POWER:g} % of runs"


def size(share: float) -> str:
    """Format a share as percentage points with their unit."""
    return f"{points(share, sign=False)} points"


def _why_no_drop(comparison: Comparison, row: Row) -> str:
    """Say why a condition's drop cannot be judged; empty where it can."""
    if row["verdict"] == NOT_COMPARABLE:
        if comparison.budgets[0] != comparison.budgets[1]:
            return f"budgets differ: {comparison.budgets[1]}, against {comparison.budgets[0]}"
        return "learning rates are scaled from different batch sizes"
    if row["verdict"] == IDENTICAL:
        return ""
    if pd.isna(row["stderr"]):
        return ONE_CLIP
    if row["n_clusters"] < MIN_CLIPS:
        return f"the items are of fewer than {MIN_CLIPS} clips"
    return ONE_SEED if row["uncertainty"] == ITEMS_ONLY else ""
