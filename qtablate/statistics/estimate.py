"""A paired difference of two conditions, in any measure of their answers, and its standard error.

Answers are crossed: every seed's model answers every item, and items that share a clip are one cluster. The variance of
the mean difference is that of two-way clustering (Cameron, Gelbach and Miller 2011, doi 10.1198/jbes.2010.07136),

    V = V(clips) + V(seeds) - V(clips x seeds),

with Satterthwaite's degrees of freedom. On balanced data it is the ANOVA estimate of two crossed random effects.
Three seeds alone say little about V(seeds), and resampling them gives intervals that are too narrow. Pooling V(seeds) over the
conditions of a sweep is narrow too where conditions differ in how much their seeds vary, as they do. So V(seeds) is the larger
of two: the variance of this difference between its own seeds, and the one that the whole sweep foretells (`larger_variance`).
results/statistics measures this rule beside others.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qtablate.statistics.clustered import clip_variance
from qtablate.statistics.distributions import t_quantile, t_tail

ALPHA, POWER = 0.05, 0.8
"""Level of two-sided tests, and the share of repetitions in which a difference of the detectable size is found."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class VarianceComponents:
    """Components of the variance of a mean difference.

    V(clips) = clip + interaction / seeds, V(seeds) = (seed + interaction) / seeds.
    """

    seed: float
    """Variance between seeds, of one seed."""
    clip: float
    """Variance between clips, of these items' mean, whatever the number of seeds."""
    interaction: float
    """Variance of clips x seeds, of one seed on these items."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean difference with its uncertainty; an unknown figure is nan."""

    value: float
    stderr: float
    dof: float
    """Degrees of freedom of the standard error."""
    seeds: int
    items: int
    clips: int
    components: VarianceComponents | None
    """None with one seed, where the components cannot be separated."""
    seed_dof: float = 0
    """Degrees of freedom of the variance between seeds; 0 where it is unknown and not in the standard error."""
    clip_dof: float = math.nan
    """Degrees of freedom of the variance between clips: their effective number less one."""
    pooled_dof: int = 0
    """Degrees of freedom of the variance between seeds that is pooled over a sweep; 0 without."""
    error_share: float = 1.0
    """Share of the error that this look at the comparison may spend (sequential.py): intervals are wider and p-values larger
    where it is below 1, and unknown where it is 0."""

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        """Return the lower and upper end of the confidence interval."""
        if not self.error_share:
            return math.nan, math.nan
        half = float(t_quantile(1 - self.error_share * (1 - level) / 2, self.dof)) * self.stderr
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """The two-sided p-value against no difference."""
        return self._tail(abs(self.value), 2)

    def p_tost(self, margin: float) -> float:
        """Return the p-value of equivalence: the larger of two one-sided tests against `-margin` and against `margin`."""
        return self._tail(margin - abs(self.value), 1)

    def p_above(self, threshold: float) -> float:
        """Return the one-sided p-value against a difference of `threshold` or less; small where it is surely larger."""
        return self._tail(self.value - threshold, 1)

    def p_below(self, threshold: float) -> float:
        """Return the one-sided p-value against a difference of `threshold` or more; small where it is surely smaller."""
        return self._tail(threshold - self.value, 1)

    def _tail(self, distance: float, sides: int) -> float:
        if math.isnan(self.stderr) or not self.error_share:
            return math.nan
        return min(1.0, sides * float(t_tail(distance / self.stderr, self.dof)) / self.error_share)


@dataclass(frozen=True, slots=True)
class SeedVariance:
    """The variance from seed to seed of one condition, beside what all conditions of a seed share."""

    variance: float
    dof: int


def pooled_seed_variance(accuracies: Floats) -> SeedVariance | None:
    """Pool the variance between seeds over all conditions: the residuals of condition and seed means.

    Args:
        accuracies: or means of another measure: (conditions, seeds), nan where a cell has not finished.

    Returns:
        None where no degree of freedom is left: one seed, or one condition.
    """
    known = ~np.isnan(accuracies)
    rows, columns = np.nonzero(known)
    values = accuracies[known]
    of_rows, of_columns = ((numbers[:, None] == np.unique(numbers)).astype(np.float64) for numbers in (rows, columns))
    means = np.hstack([of_rows, of_columns])
    if not len(values):
        return None
    fitted, _, rank, _ = np.linalg.lstsq(means, values, rcond=None)
    dof = len(values) - int(rank)
    if dof < 1:
        return None
    return SeedVariance(float(np.square(values - means @ fitted).sum()) / dof, dof)


@dataclass(frozen=True, slots=True, eq=False)
class ClipGroups:
    """Items by the clip that they share."""

    numbers: NDArray[np.int64]
    """(items,): the clip of each item, from 0 on."""
    sizes: Floats
    """(clips,): items of each clip."""

    @classmethod
    def of(cls, clips: NDArray[np.int64]) -> "ClipGroups":
        """Group items by their clips, which may have any numbers."""
        _, numbers = np.unique(clips, return_inverse=True)
        return cls(numbers, np.bincount(numbers).astype(np.float64))


def estimate(
    difference: Floats, clips: NDArray[np.int64] | ClipGroups, pooled: SeedVariance | None = None, weights: float = 2.0
) -> Estimate:
    """Estimate the mean of paired differences and its two-way clustered standard error.

    Args:
        difference: (items, seeds) differences between two conditions.
        clips: (items,) the clip of each item, as a number; or as groups, made once for many differences of the same items.
        pooled: variance between seeds of one condition, pooled over a sweep; None: from the differences' own seeds alone.
        weights: sum of the squared weights with which conditions enter the difference: 2 for one minus another.
    """
    items, seeds = difference.shape
    if not items or not seeds:
        return Estimate(math.nan, math.nan, math.nan, seeds, items, 0, None)
    mean = float(difference.mean())
    of_clip = clips if isinstance(clips, ClipGroups) else ClipGroups.of(clips)
    size, groups = of_clip.sizes, len(of_clip.sizes)
    if groups < 2:
        return Estimate(mean, math.nan, math.nan, seeds, items, groups, None)
    # deviations from the mean, summed over each clip, by seed: (clips, seeds)
    sums = np.stack([np.bincount(of_clip.numbers, column, groups) for column in (difference - mean).T], axis=1)
    of_seed = difference.mean(axis=0)
    over_seeds = difference.mean(axis=1) - mean
    between_clips = clip_variance(sums.mean(axis=1), size, float(over_seeds @ over_seeds))
    # identical answers do not prove a variance of zero: at least that of half an item that differs each way (Agresti and Min
    # 2005, doi 10.1002/sim.1781)
    of_clips, clip_dof = max(between_clips.variance, 1 / items**2), between_clips.dof
    of_seeds, seed_dof = _between_seeds(of_seed, pooled, weights)
    if seed_dof and seeds > 1:
        residuals = sums - sums.mean(axis=1, keepdims=True) - size[:, None] * (of_seed - mean)
        of_both = between_clips.correction * float(np.square(residuals).sum()) / items**2 / (seeds - 1) / seeds
        components = VarianceComponents(max(0.0, of_seeds - of_both) * seeds, max(0.0, of_clips - of_both), of_both * seeds)
    else:  # V(clips x seeds) is unknown and stays in both terms, which makes the interval wider
        of_both, components = 0.0, None
    total, dof = combined(of_clips, clip_dof, of_seeds, max(seed_dof, 1), of_both, clip_dof * max(seeds - 1, 1))
    pooled_dof = pooled.dof if pooled else 0
    return Estimate(
        mean, math.sqrt(total), float(dof), seeds, items, groups, components, seed_dof, clip_dof=clip_dof, pooled_dof=pooled_dof
    )


def _between_seeds(of_seeds: Floats, pooled: SeedVariance | None, weights: float) -> tuple[float, float]:
    """Return V(seeds) of a mean difference, with its degrees of freedom; 0 and 0 where it is unknown.

    Args:
        of_seeds: (seeds,) mean difference of each seed.
        pooled: variance of one condition.
        weights: sum of the squared weights of the conditions.
    """
    seeds = len(of_seeds)
    foretold = weights * pooled.variance / seeds if pooled else 0.0
    if seeds < 2:
        return foretold, float(pooled.dof if pooled else 0)
    own = float(of_seeds.var(ddof=1)) / seeds
    variance, dof = larger_variance(own, seeds - 1.0, foretold, pooled.dof if pooled else seeds - 1.0)
    return float(variance), float(dof)


N = TypeVar("N", float, Floats)


def larger_variance(own: N, own_dof: N, pooled: N, pooled_dof: N) -> tuple[N, N]:
    """Return the larger of two estimates of V(seeds), and its degrees of freedom.

    These are the pooled ones where the pooled variance is the larger one, and a difference's own where its own is clearly
    larger: 1 / dof = share / own_dof + (1 - share) / pooled_dof with share = 3 sqrt(1 - pooled / own), at most 1, which is
    reached where it is larger by an eighth. A jump between the two would turn a p-value of .001 into .03 where both variances
    are all but equal; where the share rises less steeply, intervals of restless conditions cover less (results/statistics).

    Args:
        own, pooled: variances. Numbers or arrays.
        own_dof, pooled_dof: their degrees of freedom, at least 1.
    """
    larger: N = np.maximum(own, pooled)
    share = np.minimum(1.0, 3 * np.sqrt((larger - pooled) / np.maximum(larger, np.finfo(float).tiny)))
    return larger, 1 / (share / own_dof + (1 - share) / pooled_dof)


def combined(clips: N, clip_dof: N, seeds: N, seed_dof: N, both: N, both_dof: N) -> tuple[N, N]:
    """Return V(clips) + V(seeds) - V(clips x seeds), and its degrees of freedom.

    Satterthwaite's degrees of freedom are too many where a large part of the variance rests on one or two: they come out large
    just when that part is small by chance. So V(seeds) enters them raised by the factor (dof + 4) / dof, with which intervals
    hold in simulation (results/statistics compares).

    Args:
        clips: V(clips); seeds: V(seeds); both: V(clips x seeds). Numbers or arrays.
        clip_dof, seed_dof, both_dof: their degrees of freedom, at least 1.
    """
    raised = seeds * (1 + 4 / seed_dof)
    cautious = _total(clips, raised, both)
    return _total(clips, seeds, both), cautious**2 / (clips**2 / clip_dof + raised**2 / seed_dof + both**2 / both_dof)


def _total(clips: N, seeds: N, both: N) -> N:
    """Return the whole variance. V(clips) and V(seeds) each contain V(clips x seeds), so neither can exceed it."""
    total: N = np.maximum(clips + seeds - both, np.maximum(clips, seeds))
    return total


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method; a missing (nan) p stays missing and counts for nothing.

    statsmodels' multipletests does not accept missing values, and six lines do not earn its dependency; the tests compare.
    """
    values = np.asarray(p, dtype=np.float64)
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    out[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return [float(adjusted) for adjusted in out]
