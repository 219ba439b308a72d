"""Mean accuracies with cluster-robust standard errors. Items that share a clip are one cluster."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def clustered_mean(values: Sequence[float] | NDArray[np.float64], clusters: Sequence[str]) -> ClusteredMean:
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


@dataclass(frozen=True, slots=True)
class ClipVariance:
    """The variance between clips of a mean over items, and how far it can be trusted."""

    variance: float
    dof: float
    """G - 1 for G clips of one size; fewer where few clips hold many of the items."""
    correction: float
    """Factor that made it unbiased: G / (G - 1) for G clips of one size."""


def clip_variance(sums: NDArray[np.float64], sizes: NDArray[np.float64], squares: float) -> ClipVariance:
    """Estimate the variance of a mean over items from clip sums: cluster-robust, corrected for clips of unequal sizes.

    The squared deviations of the clips' sums are scaled so that they are unbiased, and given Satterthwaite's degrees of
    freedom, under a working model in which items of one clip are equally correlated (Bell and McCaffrey 2002; Imbens and
    Kolesar 2016, doi 10.1162/REST_a_00552). The correlation is the one-way analysis of variance's. With clips of one size this
    is the usual G / (G - 1) and G - 1.

    Args:
        sums: (clips,): for each clip, the sum over its items of deviations from the mean over all items.
        sizes: (clips,): items of each clip. At least two clips.
        squares: sum of the squared deviations of all items.
    """
    n, groups = float(sizes.sum()), len(sizes)
    correlation = _intraclass_correlation(sums, sizes, squares)
    shares = sizes / n
    # variance of each clip's total, in units of one item's; then the covariance matrix of the totals' deviations,
    # diag(of_clips) - shares of_clips' - of_clips shares' + shares shares' total, through its trace and that of its square
    of_clips = sizes * (1 + (sizes - 1) * correlation)
    total = float(of_clips.sum())
    a, b, c = float(shares @ shares), float(shares @ of_clips), float(of_clips @ of_clips)
    trace = total - 2 * b + total * a
    mixed = float(shares @ of_clips**2)  # shares' D of_clips
    quadratic = float(shares**2 @ of_clips)  # shares' D shares
    trace_of_square = c - 4 * mixed + 2 * total * quadratic + 2 * (a * c + b * b) - 4 * total * a * b + (total * a) ** 2
    correction = total / trace
    variance = correction * float(np.square(sums).sum()) / n**2
    return ClipVariance(variance, min(trace**2 / trace_of_square, groups - 1), correction)


def _intraclass_correlation(sums: NDArray[np.float64], sizes: NDArray[np.float64], squares: float) -> float:
    """Return the correlation of two items of one clip, from 0 to 1: the one-way analysis of variance's estimate."""
    n, groups = float(sizes.sum()), len(sizes)
    between = float((np.square(sums) / sizes).sum())
    within = squares - between
    if n == groups or within + between <= 0:
        return 0.0
    per_item = max(within, 0.0) / (n - groups)
    of_clips = (between / (groups - 1) - per_item) / ((n - float(np.square(sizes).sum()) / n) / (groups - 1))
    return 0.0 if of_clips <= 0 else of_clips / (of_clips + per_item)
