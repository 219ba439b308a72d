"""Quantiles and tails of the distributions that intervals and tests rest on, and Bartlett's test.

The values are those of scipy.stats to the last bit, from the special functions under it (tests/statistics/test_distributions.py
compares them). scipy.stats itself takes more than a second to import, which is most of what a report takes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Floats = NDArray[np.float64]


def t_quantile(share: ArrayLike, dof: ArrayLike) -> Any:
    """The value below which this share of Student's t distribution lies."""
    return special.stdtrit(dof, share)


def t_tail(value: ArrayLike, dof: ArrayLike) -> Any:
    """The share of Student's t distribution above a value."""
    return special.stdtr(dof, np.negative(value))


def normal_tail(value: ArrayLike) -> Any:
    """The share of the normal distribution above a value."""
    return special.ndtr(np.negative(value))


def chi2_quantile(share: ArrayLike, dof: ArrayLike) -> Any:
    """The value below which this share of the chi-square distribution lies."""
    return 2 * special.gammaincinv(np.divide(dof, 2), share)


def chi2_tail(value: ArrayLike, dof: ArrayLike) -> Any:
    """The share of the chi-square distribution above a value."""
    return special.chdtrc(dof, value)


def bartlett_p(groups: Sequence[Floats]) -> float:
    """The p-value of Bartlett's test that all groups have one variance, which is above 0 in each.

    Source: M. S. Bartlett, "Properties of Sufficiency and Statistical Tests", Proc. R. Soc. A 160 (1937).
    """
    dof = np.array([len(group) - 1.0 for group in groups])
    variances = np.array([np.var(group, ddof=1) for group in groups])
    pooled = dof @ variances / dof.sum()
    statistic = dof.sum() * np.log(pooled) - dof @ np.log(variances)
    correction = 1 + ((1 / dof).sum() - 1 / dof.sum()) / (3 * (len(groups) - 1))
    return float(chi2_tail(statistic / correction, len(groups) - 1))
