"""Verdicts on differences: better, worse, equivalent, undecided; and what a verdict is based on."""

import math
from collections.abc import Iterable

import pandas as pd

from qtablate.statistics.estimate import ALPHA, holm

BETTER, WORSE, EQUIVALENT, UNDECIDED = "better", "worse", "equivalent", "undecided"
NOT_COMPARABLE = "not comparable"
"""The conditions had different budgets."""
IDENTICAL = "identical"
"""Two folders have the same items correct at every seed."""
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


def judge(frame: pd.DataFrame, families: Iterable[list[int]]) -> None:
    """Adjust the p-values of each family (Holm) and fill in the verdicts, in place.

    Args:
        frame: a row per difference, with `difference`, `p` and `p_tost`.
        families: row numbers of each family of tests.
    """
    for members in families:
        frame.loc[members, "p_holm"] = holm(list(frame.loc[members, "p"].astype(float)))
        frame.loc[members, "p_tost"] = holm(list(frame.loc[members, "p_tost"].astype(float)))
    judged = zip(frame["difference"], frame["p_holm"], frame["p_tost"], strict=True)
    frame["verdict"] = [verdict(float(difference), float(p), float(p_tost)) for difference, p, p_tost in judged]
