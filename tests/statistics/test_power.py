"""Minimum detectable effects against statsmodels, and required sizes against them."""

import math

import numpy as np
import pytest
from crossed import noisy

from qtablate.statistics.estimate import ALPHA, estimate
from qtablate.statistics.power import minimum_detectable_effect, required_sizes


def test_minimum_detectable_effect_is_statsmodels_power_of_a_t_test():
    power = pytest.importorskip("statsmodels.stats.power")
    for n in (4, 12, 200):
        effect = power.tt_solve_power(nobs=n, alpha=ALPHA, power=0.8)
        mine = minimum_detectable_effect(np.array([1 / math.sqrt(n)]), np.array([n - 1.0]))
        assert mine[0] == pytest.approx(effect, rel=1e-4)


def test_the_required_sizes_are_just_enough():
    """So many seeds, or items, make the margin detectable, and one step fewer does not."""
    random = np.random.default_rng(8)
    values, clips = noisy(random, 200, 2, 4, of_clip=0.02, of_seed=0.02)
    one = estimate(values, clips)
    margin = 0.03
    seeds, items = required_sizes(one, margin)
    assert seeds is not None
    assert seeds > 4
    seed, clip, interaction = (getattr(one.components, name) for name in ("seed", "clip", "interaction"))
    for number, enough in ((seeds, True), (seeds - 1, False)):
        variances = [(seed + interaction) / number, clip + interaction / number, interaction / number]
        freedoms = [number - 1, 199, 199 * (number - 1)]
        whole = variances[0] + variances[1] - variances[2]
        dof = whole**2 / sum(v**2 / f for v, f in zip(variances, freedoms, strict=True))
        assert (minimum_detectable_effect(np.array([whole**0.5]), np.array([dof]))[0] <= margin) == enough
    assert items is None or items > 400
    alike = estimate(values - values.mean(axis=0), clips)  # seeds do not differ: items help
    assert required_sizes(alike, 0.02)[1] is not None
    assert required_sizes(estimate(values[:, :1], clips), margin) == (None, None)  # one seed does not tell
