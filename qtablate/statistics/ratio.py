"""Interval of a ratio of two means."""

import math

import numpy as np
from numpy.typing import NDArray

from qtablate.statistics.distributions import t_quantile


def ratio_interval(numerator: NDArray[np.float64], denominator: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Return Fieller's interval of the mean numerator over the mean denominator, for a ratio that is not negative.

    It holds the ratios r at which a t test of the mean of (numerator - r denominator) does not reject. Where the denominator
    may be zero, the interval has no upper end. An interval of the logarithm of the ratio is always finite and misses the ratio
    too often there (Fieller 1954).

    Args:
        numerator: independent values, two at least.
        denominator: their counterparts.
        confidence: such as 0.95.

    Returns:
        Lower and upper end; 0 and infinity where the values tell nothing.
    """
    count = len(numerator)
    t = float(t_quantile(0.5 + confidence / 2, count - 1))
    covariance = t * t * np.cov(numerator, denominator) / count
    top, bottom = float(numerator.mean()), float(denominator.mean())
    # the ratios r with a r^2 - 2 b r + c <= 0
    a, b, c = bottom**2 - covariance[1, 1], top * bottom - covariance[0, 1], top**2 - covariance[0, 0]
    root = math.sqrt(max(b * b - a * c, 0.0))
    if a > 0:
        return max((b - root) / a, 0.0), max((b + root) / a, 0.0)
    # outside of the two roots; with c > 0 one of them is negative
    return (c / (b + root) if c > 0 and b + root > 0 else 0.0), math.inf
