"""Power: the smallest difference that a test reliably finds, and the seeds or items that it takes to find a given one.

The rule of estimate.py takes the larger of two variances between seeds, each with its own degrees of freedom, so that the
critical value varies from one repetition of a design to another, and no noncentral t describes its power. Here power is the
mean over a grid of quantiles of the two variances.
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtablate.statistics.distributions import chi2_quantile, normal_tail, t_quantile
from qtablate.statistics.estimate import ALPHA, POWER, Estimate, Floats, VarianceComponents, combined, larger_variance

MOST_SEEDS = 100
"""Largest number of seeds that is thought of."""
MOST_ITEMS = 64
"""Largest multiple of the present number of items that is thought of."""
RANGE = 0.8
"""Confidence of the range of needed seeds: the variance between seeds is known only roughly itself."""
_QUANTILES = (np.arange(12) + 0.5) / 12


@dataclass(frozen=True, slots=True)
class Designs:
    """Designs of a comparison, one an element: arrays that broadcast against one another."""

    seed: Floats
    """Variance of the difference between seeds, of one seed, without `interaction`."""
    clip: Floats
    """Variance between clips, of these items' mean, without `interaction`."""
    interaction: Floats
    """Variance of clips x seeds, of one seed on these items."""
    seeds: Floats
    clip_dof: Floats
    """Degrees of freedom between clips."""
    pooled_dof: Floats
    """Degrees of freedom of the variance between seeds that is pooled over a sweep; 0 where there is none."""


def detectable_effect(designs: Designs, level: Floats | float = ALPHA) -> Floats:
    """Return the smallest true difference that a two-sided test finds in POWER of all repetitions.

    Args:
        designs: N designs.
        level: of the test, for each design.

    Returns:
        (N,) differences; nan where a variance or the level is unknown.
    """
    fields = np.broadcast_arrays(
        *(np.asarray(getattr(designs, field.name), dtype=np.float64) for field in dataclasses.fields(Designs)),
        np.asarray(level, dtype=np.float64),
    )
    out = np.full(fields[0].shape, np.nan)
    known = np.all([np.isfinite(field) for field in fields], axis=0) & (fields[3] >= 1)
    if not known.any():
        return out
    seed, clip, interaction, seeds, clip_dof, pooled_dof, alpha = (field[known][:, None] for field in fields)
    error = _critical_error(seed, clip, interaction, seeds, clip_dof, pooled_dof, alpha)  # (N, nodes)
    sd = np.sqrt(clip + (seed + interaction) / seeds)
    low, high = np.zeros((len(sd), 1)), error.max(axis=1, keepdims=True) + 5 * sd
    for _ in range(24):  # bisection: power rises with the difference
        middle = (low + high) / 2
        enough = normal_tail((error - middle) / np.maximum(sd, np.finfo(float).tiny)).mean(axis=1, keepdims=True) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    out[known] = high[:, 0]
    return out


def _critical_error(
    seed: Floats, clip: Floats, interaction: Floats, seeds: Floats, clip_dof: Floats, pooled_dof: Floats, alpha: Floats
) -> Floats:
    """Return, for each pair of quantiles of the two variances between seeds, the estimate at which the test finds a difference.

    Args:
        seed, clip, interaction, seeds, clip_dof, pooled_dof: as in Designs, (N, 1).
        alpha: (N, 1) level of the test.
    """
    first, second = (grid.ravel() for grid in np.meshgrid(*(np.arange(len(_QUANTILES)),) * 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        own = np.where(seeds > 1, _chi2_quantiles(seeds - 1)[:, first] / (seeds - 1), 0.0)
        pooled = np.where(pooled_dof > 0, _chi2_quantiles(pooled_dof)[:, second] / pooled_dof, 0.0)
    both = np.where(seeds > 1, interaction / seeds, 0.0)
    relative, dof = larger_variance(
        own, np.maximum(seeds - 1, 1.0), pooled, np.where(pooled_dof > 0, pooled_dof, np.maximum(seeds - 1, 1.0))
    )
    of_seeds = (seed + interaction) / seeds * relative
    total, freedom = combined(clip + interaction / seeds, clip_dof, of_seeds, dof, both, clip_dof * np.maximum(seeds - 1, 1))
    error: Floats = t_quantile(1 - alpha / 2, freedom) * np.sqrt(total)
    return error


def _chi2_quantiles(dof: Floats) -> Floats:
    """Return the quantiles _QUANTILES of chi-square distributions, (N, quantiles); many designs have the same.

    Args:
        dof: (N, 1) degrees of freedom.
    """
    different, places = np.unique(dof[:, 0], return_inverse=True)
    quantiles: Floats = chi2_quantile(_QUANTILES, different[:, None])
    return quantiles[places]


def designs_of(estimates: Sequence[Estimate]) -> Designs:
    """Return the designs of these estimates, with the variances that they found."""
    rows = []
    for one in estimates:
        parts = one.components or VarianceComponents(0.0, one.stderr**2, 0.0)
        clip_dof = one.clip_dof if one.components else one.dof
        pooled_dof = one.pooled_dof if one.components else 0
        rows.append((parts.seed, parts.clip, parts.interaction, one.seeds, clip_dof, pooled_dof))
    return Designs(*np.array(rows, dtype=np.float64).reshape(-1, 6).T)


@dataclass(frozen=True, slots=True)
class Needed:
    """What would make a difference of the margin detectable; None where nothing does that is thought of."""

    seeds: int | None
    seeds_low: int | None
    """Lower end of the range of RANGE confidence: the variance between seeds is known only roughly itself."""
    seeds_high: int | None
    items: int | None
    """In all, at the present number of seeds."""


NOTHING_NEEDED = Needed(None, None, None, None)


def required_sizes(estimates: Sequence[Estimate], margin: float, level: Floats | float = ALPHA) -> list[Needed]:
    """Return the numbers of seeds, or else of items, with which a difference as large as the margin would be found.

    Found means in POWER of all repetitions. Nothing is returned for a single seed, whose variance is unknown.

    Args:
        estimates: of contrasts.
        margin: the difference.
        level: of the test, for each contrast.
    """
    levels = np.broadcast_to(np.asarray(level, np.float64), (len(estimates),))
    places = [place for place, one in enumerate(estimates) if one.components and one.items]
    out = [NOTHING_NEEDED] * len(estimates)
    if not places:
        return out
    known, levels = [estimates[place] for place in places], levels[places]
    designs = designs_of(known)
    dof = np.array([one.seed_dof for one in known])
    tail = (1 - RANGE) / 2
    variance_factors = (1.0, dof / chi2_quantile(1 - tail, dof), dof / chi2_quantile(tail, dof))
    seeds = [_seeds_needed(_with_seed_variance(designs, factor), margin, levels) for factor in variance_factors]
    items = _items_needed(designs, margin, levels)
    for number, place in enumerate(places):
        factor = items[number]
        needed = None if factor is None else math.ceil(known[number].items * factor)
        out[place] = Needed(seeds[0][number], seeds[1][number], seeds[2][number], needed)
    return out


def _with_seed_variance(designs: Designs, factor: Floats | float) -> Designs:
    """Return the designs with V(seeds), `seed` and `interaction` together, multiplied by a factor."""
    seed = np.maximum((designs.seed + designs.interaction) * factor - designs.interaction, 0.0)
    return dataclasses.replace(designs, seed=seed)


def _seeds_needed(designs: Designs, margin: float, level: Floats) -> list[int | None]:
    """Return the smallest number of seeds, from 2 to MOST_SEEDS, that makes the margin detectable."""

    def effect(seeds: NDArray[np.int64]) -> Floats:
        pooled = designs.pooled_dof / (designs.seeds - 1) * (seeds - 1)
        return detectable_effect(dataclasses.replace(designs, seeds=seeds.astype(np.float64), pooled_dof=pooled), level)

    low, high = np.full(len(level), 1), np.full(len(level), MOST_SEEDS)
    enough = effect(high) <= margin
    while (high - low > 1).any():  # `high` is enough, or the largest; `low` is not enough
        middle = np.maximum((low + high) // 2, 2)
        found = effect(middle) <= margin
        low, high = np.where(found, low, middle), np.where(found, middle, high)
        low = np.minimum(low, high - 1)
    return [int(number) if reached else None for number, reached in zip(high, enough, strict=True)]


def _items_needed(designs: Designs, margin: float, level: Floats) -> list[float | None]:
    """Return the smallest multiple of the present items, up to MOST_ITEMS, that makes the margin detectable."""

    def effect(factor: Floats) -> Floats:
        more = dataclasses.replace(
            designs,
            clip=designs.clip / factor,
            interaction=designs.interaction / factor,
            clip_dof=(designs.clip_dof + 1) * factor - 1,
        )
        return detectable_effect(more, level)

    low, high = np.ones(len(level)), np.full(len(level), float(MOST_ITEMS))
    enough = effect(high) <= margin
    for _ in range(12):
        middle = np.sqrt(low * high)
        found = effect(middle) <= margin
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return [float(factor) if reached else None for factor, reached in zip(high, enough, strict=True)]
