"""Verdicts on differences: better, worse, equivalent, undecided; and what a verdict is based on."""

import math
from collections.abc import Iterable, Sequence

import pandas as pd

from qtablate.statistics.estimate import ALPHA, holm

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
NOT_COMPARABLE = "not comparable"
"""The conditions had different budgets."""
IDENTICAL = "identical"
"""The same run, step for step; of two folders: the same items are correct at every seed."""
ITEMS_ONLY = "items only"
"""The uncertainty is that of the items alone: one seed cannot tell of others."""
ITEMS_AND_SEEDS = "items and seeds"


def verdict(difference: float, p: float, p_tost: float) -> str:
    """Judge a difference by its adjusted p-values; empty where p is missing.

    A difference that is surely smaller than the margin is equivalent, even where it is surely not zero.

    Args:
        difference: of accuracies.
        p: against no difference, two-sided.
        p_tost: against a difference of the margin or more (two one-sided tests).
    """
    if math.isnan(p):
        return ""
    if p_tost < ALPHA:
        return EQUIVALENT
    if p < ALPHA:
        return BETTER if difference > 0 else WORSE
    return UNDECIDED


def judge(frame: pd.DataFrame) -> None:
    """Fill in the verdicts, in place.

    Args:
        frame: a row per difference, with `difference` and the adjusted `p_holm` and `p_tost`.
    """
    judged = zip(frame["difference"], frame["p_holm"], frame["p_tost"], strict=True)
    frame["verdict"] = [verdict(float(difference), float(p), float(p_tost)) for difference, p, p_tost in judged]


def adjusted(p: "pd.Series[float]", families: Iterable[Sequence[Sequence[int]]]) -> list[float]:
    """Adjust the p-values of each family of tests (Holm).

    Args:
        p: a p-value per row.
        families: the tests of each family; a test is the numbers of the rows that show it, counts once, and they share its
            value. Rows in no family are left without one.
    """
    out, of_row = [math.nan] * len(p), p.tolist()
    for family in families:
        values = holm([float(of_row[test[0]]) for test in family])
        for test, value in zip(family, values, strict=True):
            for row in test:
                out[row] = value
    return out
