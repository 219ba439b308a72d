"""Accuracies with their standard errors. Items that share a clip are one cluster (shared facts: statistics.md)."""

from collections.abc import Sequence

import numpy as np

from qtablate.records import Rate

FEWEST_CLIPS = 10
"""Clips below which a standard error says nothing: that of G clusters is itself uncertain by about 1 / sqrt(2 (G - 1)) of its
size, a quarter at ten, and is 0 where few clips happen to score alike."""


def rate(values: Sequence[float], clusters: Sequence[str]) -> Rate:
    """Mean of item values and its standard error, clustered: items of one clip are not independent.

    The variance is that of a ratio of cluster sums with the factor G / (G - 1) for G clusters (the linearised
    estimator of cluster sampling, as statsmodels' cov_type="cluster" on an intercept).
    """
    n = len(values)
    if n == 0:
        return Rate(None, None, 0)
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    groups = len(names)
    if groups < 2:
        return Rate(mean, None, n)
    sums = np.bincount(index, weights=x - mean, minlength=groups)
    return Rate(mean, float(np.sqrt(groups / (groups - 1) * np.square(sums).sum()) / n), n)
