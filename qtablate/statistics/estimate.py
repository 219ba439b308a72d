"""A paired difference in accuracy and its standard error, from correct and incorrect answers of two conditions.

Answers are crossed: every seed's model answers every item, and items that share a clip are one cluster. The variance of
the mean difference is that of two-way clustering (Cameron, Gelbach and Miller 2011, doi 10.1198/jbes.2010.07136),

    V = V(clips) + V(seeds) - V(clips x seeds),

with Satterthwaite's degrees of freedom. On balanced data it is the ANOVA estimate of two crossed random effects.
Three seeds alone say little about V(seeds), and resampling them gives intervals that are too narrow (results/statistics).
So nothing is resampled, and V(seeds) is pooled over all conditions of a sweep: it is the variance of their accuracies around
each condition's and each seed's mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
    seed_dof: int = 0
    """Degrees of freedom of the variance between seeds; 0 where it is unknown and not in the standard error."""

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        """Return the lower and upper end of the confidence interval."""
        half = float(stats.t.ppf(0.5 + level / 2, self.dof)) * self.stderr
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """The two-sided p-value against no difference."""
        return self._tail(abs(self.value), 2)

    def p_tost(self, margin: float) -> float:
        """Return the p-value of equivalence: the larger of two one-sided tests against `-margin` and against `margin`."""
        return self._tail(margin - abs(self.value), 1)

    def _tail(self, distance: float, sides: int) -> float:
        if math.isnan(self.stderr):
            return math.nan
        return min(1.0, sides * float(stats.t.sf(distance / self.stderr, self.dof)))


@dataclass(frozen=True, slots=True)
class SeedVariance:
    """The variance of one condition's accuracy from seed to seed, beside what all conditions of a seed share."""

    variance: float
    dof: int


def pooled_seed_variance(accuracies: Floats) -> SeedVariance | None:
    """Pool the variance between seeds over all conditions: the residuals of condition and seed means.

    Args:
        accuracies: (conditions, seeds), nan where a cell has not finished.

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


def estimate(
    difference: Floats, clips: NDArray[np.int64], seed_variance: SeedVariance | None = None, weights: float = 2.0
) -> Estimate:
    """Estimate the mean of paired differences and its two-way clustered standard error.

    Args:
        difference: (items, seeds) differences between two conditions.
        clips: (items,) the clip of each item, as a number.
        seed_variance: that of one condition, pooled over a sweep; None: from the differences' own seeds.
        weights: sum of the squared weights with which conditions enter the difference: 2 for one minus another.
    """
    items, seeds = difference.shape
    if not items or not seeds:
        return Estimate(math.nan, math.nan, math.nan, seeds, items, 0, None)
    mean = float(difference.mean())
    _, clips = np.unique(clips, return_inverse=True)
    groups = int(clips.max()) + 1
    if groups < 2:
        return Estimate(mean, math.nan, math.nan, seeds, items, groups, None)
    # deviations from the mean, summed over each clip, by seed: (clips, seeds)
    sums = np.zeros((groups, seeds))
    np.add.at(sums, clips, difference - mean)
    factor = groups / (groups - 1) / items**2
    # identical answers do not prove a variance of zero: at least that of half a clip that differs each way (Agresti and Min
    # 2005, doi 10.1002/sim.1781)
    of_clips = max(factor * float(np.square(sums.mean(axis=1)).sum()), 1 / groups**2)
    if seeds < 2 and seed_variance is None:
        return Estimate(mean, math.sqrt(of_clips), groups - 1, seeds, items, groups, None)
    if seeds < 2:  # V(clips x seeds) is unknown and stays in both terms, which makes the interval wider
        assert seed_variance is not None
        of_seeds = weights * seed_variance.variance
        dof = _satterthwaite(of_clips + of_seeds, [(of_clips, groups - 1), (of_seeds, seed_variance.dof)])
        return Estimate(mean, math.sqrt(of_clips + of_seeds), dof, seeds, items, groups, None, seed_variance.dof)
    if seed_variance is None:
        seed_variance = SeedVariance(float(difference.mean(axis=0).var(ddof=1)) / weights, seeds - 1)
    of_seeds = weights * seed_variance.variance / seeds
    size = np.bincount(clips)[:, None]
    residuals = sums - sums.mean(axis=1, keepdims=True) - size * (difference.mean(axis=0) - mean)
    of_both = factor * float(np.square(residuals).sum()) / (seeds - 1) / seeds
    # V(clips) and V(seeds) each contain V(clips x seeds), so neither can exceed the total
    total = max(of_clips + of_seeds - of_both, of_clips, of_seeds)
    terms = [(of_clips, groups - 1), (of_seeds, seed_variance.dof), (of_both, (groups - 1) * (seeds - 1))]
    components = VarianceComponents(max(0.0, of_seeds - of_both) * seeds, max(0.0, of_clips - of_both), of_both * seeds)
    dof = _satterthwaite(total, terms)
    return Estimate(mean, math.sqrt(total), dof, seeds, items, groups, components, seed_variance.dof)


def _satterthwaite(total: float, terms: Sequence[tuple[float, int]]) -> float:
    """Return the degrees of freedom of a variance that is a sum of (variance, degrees of freedom) terms."""
    below = sum(variance**2 / dof for variance, dof in terms)
    return total**2 / below if below else float(min(dof for _, dof in terms))


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
