"""Power: the smallest difference that a test finds, and the seeds or items that it takes to find a given one."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from qtablate.statistics.estimate import ALPHA, POWER, Estimate, Floats

SEED_COUNTS = np.array([*range(2, 21), 25, 30, 40, 50, 75, 100])
"""Numbers of seeds that required_sizes tries."""
ITEM_FACTORS = np.geomspace(1, 64, 25)
"""Multiples of the present number of items that required_sizes tries."""


def minimum_detectable_effect(stderr: Floats, dof: Floats) -> Floats:
    """Return the smallest true difference that a two-sided t-test at ALPHA finds in POWER of all repetitions.

    statsmodels' TTestPower solves the same equation for one number at a time and for sample sizes only, with degrees of
    freedom that follow from them; here they are Satterthwaite's, and whole columns are solved together.
    """
    critical = stats.t.ppf(1 - ALPHA / 2, dof)
    low, high = np.zeros_like(critical), np.full_like(critical, 10.0) * critical
    for _ in range(40):  # bisection: scipy's nct has no inverse in its second parameter
        middle = (low + high) / 2
        enough = stats.nct.sf(critical, dof, middle) >= POWER
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    out: Floats = high * stderr
    return out


def required_sizes(estimate: Estimate, margin: float) -> tuple[int | None, int | None]:
    """Return the number of seeds, or else of items, with which a difference as large as the margin would be found.

    Found means in POWER of all repetitions. None where no number that is tried is enough, or where there is one seed only.
    """
    if estimate.components is None or not estimate.items:
        return None, None
    components, clips = estimate.components, estimate.clips
    seeds = SEED_COUNTS.astype(np.float64)
    dof_per_seed = estimate.seed_dof / (estimate.seeds - 1)  # degrees of freedom that one more seed brings
    by_seeds = _detected(
        components.seed / seeds,
        np.full_like(seeds, components.clip),
        components.interaction / seeds,
        dof_per_seed * (seeds - 1),
        seeds,
        clips,
        margin,
    )
    factors, present = ITEM_FACTORS, float(estimate.seeds)
    by_items = _detected(
        np.full_like(factors, components.seed / present),
        components.clip / factors,
        components.interaction / present / factors,
        np.full_like(factors, estimate.seed_dof),
        np.full_like(factors, present),
        clips * factors,
        margin,
    )
    return (
        int(seeds[by_seeds.argmax()]) if by_seeds.any() else None,
        math.ceil(estimate.items * factors[by_items.argmax()]) if by_items.any() else None,
    )


def _detected(
    seed: Floats, clip: Floats, interaction: Floats, seed_dof: Floats, seeds: Floats, clips: Floats | int, margin: float
) -> NDArray[np.bool_]:
    """Whether each design's minimum detectable effect is within the margin, from its variance components."""
    total = seed + clip + interaction
    below = (
        np.square(seed + interaction) / seed_dof
        + np.square(clip + interaction) / (clips - 1)
        + np.square(interaction) / ((seeds - 1) * (clips - 1))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        dof = np.where(below > 0, np.square(total) / below, 1e6)
    out: NDArray[np.bool_] = minimum_detectable_effect(np.sqrt(total), dof) <= margin
    return out
