"""A paired difference with its uncertainty, from right and wrong answers of two arms. No files, no tables: numbers alone.

Answers are crossed: every seed's model answers every item, and items that share a clip are one cluster. The variance of
the mean difference is that of two-way clustering (Cameron, Gelbach and Miller 2011, doi 10.1198/jbes.2010.07136),

    V = V(clips) + V(seeds) - V(clips x seeds),

whose degrees of freedom are Satterthwaite's. On balanced data it is the ANOVA estimate of two crossed random effects.
Three seeds alone tell little of V(seeds), and resampling them gives intervals that are too narrow (results/statistics).
So nothing is resampled, and V(seeds) is pooled over all conditions of a sweep: what is left of their accuracies when each
condition's and each seed's mean is taken away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

ALPHA, POWER = 0.05, 0.8

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parts:
    """Variances of the mean difference, a part each: V(clips) = clip + both / seeds, V(seeds) = (seed + both) / seeds."""

    seed: float
    """Of one seed."""
    clip: float
    """Of these items, whatever the number of seeds."""
    both: float
    """Of one seed on these items."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean difference; what is not known is nan."""

    value: float
    stderr: float
    freedom: float
    seeds: int
    items: int
    clips: int
    parts: Parts | None
    """None with one seed, whose parts cannot be told apart."""
    seed_freedom: int = 0
    """Degrees of freedom of the part of the seeds; 0 where that is unknown and not in the standard error."""

    def interval(self, level: float = 1 - ALPHA) -> tuple[float, float]:
        half = float(stats.t.ppf(0.5 + level / 2, self.freedom)) * self.stderr
        return self.value - half, self.value + half

    @property
    def p(self) -> float:
        """Two-sided, against no difference."""
        return self._tail(abs(self.value), 2)

    def p_beyond(self, margin: float) -> float:
        """Two one-sided tests: the larger p of `at most -margin` and `at least margin`. Small: equivalent."""
        return self._tail(margin - abs(self.value), 1)

    def _tail(self, distance: float, sides: int) -> float:
        if math.isnan(self.stderr):
            return math.nan
        return min(1.0, sides * float(stats.t.sf(distance / self.stderr, self.freedom)))


@dataclass(frozen=True, slots=True)
class SeedNoise:
    """How much a condition's accuracy varies from seed to seed, beside what all conditions share."""

    variance: float
    freedom: int


def seed_noise(accuracies: Floats) -> SeedNoise | None:
    """Pooled over a (conditions, seeds) table of accuracies, nan where a cell has not finished; None where it is too
    small to tell: one seed, or one condition."""
    known = ~np.isnan(accuracies)
    rows, columns = np.nonzero(known)
    values = accuracies[known]
    of_rows, of_columns = ((numbers[:, None] == np.unique(numbers)).astype(np.float64) for numbers in (rows, columns))
    means = np.hstack([of_rows, of_columns])
    if not len(values):
        return None
    fitted, _, rank, _ = np.linalg.lstsq(means, values, rcond=None)
    freedom = len(values) - int(rank)
    if freedom < 1:
        return None
    return SeedNoise(float(np.square(values - means @ fitted).sum()) / freedom, freedom)


def estimate(difference: Floats, clips: NDArray[np.int64], noise: SeedNoise | None = None, weights: float = 2.0) -> Estimate:
    """Of (items, seeds) differences of items in these clips, numbered from 0. `noise` is that of one condition, and
    `weights` the sum of the squared weights with which conditions enter the difference: 2 for one minus another. Without
    it the differences' own seeds must tell."""
    items, seeds = difference.shape
    if not items or not seeds:
        return Estimate(math.nan, math.nan, math.nan, seeds, items, 0, None)
    mean = float(difference.mean())
    _, clips = np.unique(clips, return_inverse=True)
    groups = int(clips.max()) + 1
    if groups < 2:
        return Estimate(mean, math.nan, math.nan, seeds, items, groups, None)
    # sums over each clip of what deviates from the mean, for each seed: (clips, seeds)
    sums = np.zeros((groups, seeds))
    np.add.at(sums, clips, difference - mean)
    factor = groups / (groups - 1) / items**2
    # no answer that differs does not mean that none could: as if half a clip differed each way (Agresti and Min 2005,
    # doi 10.1002/sim.1781), below which no data can tell
    of_clips = max(factor * float(np.square(sums.mean(axis=1)).sum()), 1 / groups**2)
    if seeds < 2 and noise is None:
        return Estimate(mean, math.sqrt(of_clips), groups - 1, seeds, items, groups, None)
    if seeds < 2:  # what other conditions' seeds tell; V(clips x seeds) is not known and stays in both, which is wider
        assert noise is not None
        of_seeds = weights * noise.variance
        freedom = _satterthwaite(of_clips + of_seeds, [(of_clips, groups - 1), (of_seeds, noise.freedom)])
        return Estimate(mean, math.sqrt(of_clips + of_seeds), freedom, seeds, items, groups, None, noise.freedom)
    if noise is None:
        noise = SeedNoise(float(difference.mean(axis=0).var(ddof=1)) / weights, seeds - 1)
    of_seeds = weights * noise.variance / seeds
    size = np.bincount(clips)[:, None]
    rest = sums - sums.mean(axis=1, keepdims=True) - size * (difference.mean(axis=0) - mean)
    of_both = factor * float(np.square(rest).sum()) / (seeds - 1) / seeds
    # each of the first two holds the third, so neither can be more than the whole
    whole = max(of_clips + of_seeds - of_both, of_clips, of_seeds)
    freedom = _satterthwaite(whole, [(of_clips, groups - 1), (of_seeds, noise.freedom), (of_both, (groups - 1) * (seeds - 1))])
    parts = Parts(max(0.0, of_seeds - of_both) * seeds, max(0.0, of_clips - of_both), of_both * seeds)
    return Estimate(mean, math.sqrt(whole), freedom, seeds, items, groups, parts, noise.freedom)


def _satterthwaite(whole: float, parts: Sequence[tuple[float, int]]) -> float:
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return whole**2 / below if below else float(min(freedom for _, freedom in parts))


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment; missing p stay missing and count for nothing."""
    values = np.asarray(p, dtype=np.float64)
    out = np.full(len(values), np.nan)
    known = np.flatnonzero(~np.isnan(values))
    order = known[np.argsort(values[known], kind="stable")]
    out[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return [float(one) for one in out]


def detectable(stderr: Floats, freedom: Floats) -> Floats:
    """The smallest true difference that a two-sided test finds in POWER of all repetitions."""
    critical = stats.t.ppf(1 - ALPHA / 2, freedom)
    low, high = np.zeros_like(critical), np.full_like(critical, 10.0) * critical
    for _ in range(40):  # bisection: scipy's nct has no inverse in its second parameter
        middle = (low + high) / 2
        enough = stats.nct.sf(critical, freedom, middle) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    out: Floats = high * stderr
    return out


SEEDS_TRIED = np.array([*range(2, 21), 25, 30, 40, 50, 75, 100])
ITEMS_TRIED = np.geomspace(1, 64, 25)


def to_decide(one: Estimate, margin: float) -> tuple[int | None, int | None]:
    """With how many seeds, or else with how many items, a difference as large as the margin would be found (in POWER of
    all repetitions); None where no number within reason would do, or where one seed does not tell."""
    if one.parts is None or not one.items:
        return None, None
    part, groups = one.parts, one.clips
    seeds = SEEDS_TRIED.astype(np.float64)
    a_seed = one.seed_freedom / (one.seeds - 1)  # degrees of freedom that one more seed brings
    more_seeds = _enough(
        part.seed / seeds, np.full_like(seeds, part.clip), part.both / seeds, a_seed * (seeds - 1), seeds, groups, margin
    )
    share = ITEMS_TRIED
    here = float(one.seeds)
    more_items = _enough(
        np.full_like(share, part.seed / here),
        part.clip / share,
        part.both / here / share,
        np.full_like(share, one.seed_freedom),
        np.full_like(share, here),
        groups * share,
        margin,
    )
    return (
        int(seeds[more_seeds.argmax()]) if more_seeds.any() else None,
        math.ceil(one.items * share[more_items.argmax()]) if more_items.any() else None,
    )


def _enough(
    seed: Floats, clip: Floats, both: Floats, freedom: Floats, seeds: Floats, groups: Floats | int, margin: float
) -> NDArray[np.bool_]:
    whole = seed + clip + both
    below = (
        np.square(seed + both) / freedom
        + np.square(clip + both) / (groups - 1)
        + np.square(both) / ((seeds - 1) * (groups - 1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        together = np.where(below > 0, np.square(whole) / below, 1e6)
    out: NDArray[np.bool_] = detectable(np.sqrt(whole), together) <= margin
    return out
