"""Mean accuracies with cluster-robust standard errors. Items that share a clip are one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_CLIPS = 10
"""Clips below which a standard error is not reported: that of G clusters is itself uncertain by about 1 / sqrt(2 (G - 1)) of
its size, a quarter at ten, and is 0 where few clips happen to score alike."""


@dataclass(frozen=True, slots=True)
class ClusteredMean:
    """A mean over items, an accuracy most often, with its standard error."""

    value: float | None
    """None without items."""
    stderr: float | None
    """Clustered by clip; None with fewer than two clips."""
    n: int
    """Number of items."""


def clustered_mean(values: Sequence[float], clusters: Sequence[str]) -> ClusteredMean:
    """Return the mean of item values and its standard error, clustered because items of one clip are not independent.

    The variance is that of a ratio of cluster sums with the factor G / (G - 1) for G clusters: the linearized estimator of
    cluster sampling, as statsmodels' cov_type="cluster" on an intercept. The tests compare with statsmodels; fifteen lines
    of numpy here spare users that dependency.

    Args:
        values: one value per item.
        clusters: the cluster (clip) of each item.
    """
    n = len(values)
    if n == 0:
        return ClusteredMean(None, None, 0)
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    names, index = np.unique(np.asarray(clusters), return_inverse=True)
    groups = len(names)
    if groups < 2:
        return ClusteredMean(mean, None, n)
    sums = np.bincount(index, weights=x - mean, minlength=groups)
    return ClusteredMean(mean, float(np.sqrt(groups / (groups - 1) * np.square(sums).sum()) / n), n)
