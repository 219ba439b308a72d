"""Looks: comparisons that are judged again as seeds are added, so that seeds which decide nothing more are not run.

Whoever looks after every seed and stops at the first p below .05 of a t test finds something in 8 to 17 % of repetitions with
4 to 10 seeds where there is nothing (results/statistics/until_decided.md). Here each look has a share of the error, and the
shares add up to one: a test at the level alpha is one at `share * alpha` at each look. So all looks together err in at most
alpha of all repetitions, and an interval at the level that is left covers at all looks together, whatever made anyone stop
("repeated confidence intervals": Jennison and Turnbull 1989). This is Bonferroni's bound, which holds however looks depend on
one another. The boundaries of O'Brien and Fleming or of Pocock are larger, but rest on normal increments: with t-statistics of
two to nine degrees of freedom they err in 5.6 to 6 %, not in 5.
"""

import numpy as np
from numpy.typing import NDArray

from qtablate.statistics.estimate import ALPHA, Floats

FIRST_LOOK = 3
"""Seeds at the first look. With two, the variance between a comparison's own seeds has one degree of freedom."""
LAST_SHARE = 0.5
"""Share of the error that is kept for the last look, so that a comparison which needs all seeds loses little power. The earlier
looks have equal shares of the rest."""


def looks(planned: int) -> range:
    """Return the numbers of seeds after which a sweep of this many planned seeds is looked at."""
    return range(min(FIRST_LOOK, planned), planned + 1)


def error_share(seeds: int, planned: int) -> float:
    """Return the share of the error that the look after some seeds may spend; 0 before the first look.

    Args:
        seeds: that have finished all sides of the comparison.
        planned: seeds of the whole sweep.
    """
    if seeds >= planned:
        return 1.0 if planned <= FIRST_LOOK else LAST_SHARE
    return 0.0 if seeds < FIRST_LOOK else (1 - LAST_SHARE) / (planned - FIRST_LOOK)


def rejected(p: Floats, settled: NDArray[np.bool_], alpha: float = ALPHA) -> NDArray[np.bool_]:
    """Return which tests of a family reject for good: nothing that the other tests find later takes that back.

    This is Holm's method in which only settled tests make room for others. What rejects here is rejected by Holm's adjustment
    of these p-values, too, and also after the p-values of tests that are not settled have changed.

    Args:
        p: p-values, each multiplied by what its look costs; nan counts for nothing.
        settled: tests that get no more data.
        alpha: level of the family.
    """
    known = ~np.isnan(p)
    values = np.where(known, p, 1.0)
    left = int(known.sum())
    while True:
        out: NDArray[np.bool_] = known & (values * left < alpha)
        remaining = int(known.sum() - (out & settled).sum())
        if remaining >= left:
            return out
        left = remaining
