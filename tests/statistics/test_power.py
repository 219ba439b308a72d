"""Detectable effects against statsmodels and against simulation, and required sizes against them."""

import math

import numpy as np
import pytest
from crossed import noisy
from scipy import stats

from qtablate.statistics.estimate import ALPHA, combined, estimate, larger_variance
from qtablate.statistics.power import Designs, designs_of, detectable_effect, required_sizes


def design(seed=0.0, clip=0.0, interaction=0.0, seeds=3, clip_dof=600.0, pooled_dof=0):
    return Designs(*(np.array([float(value)]) for value in (seed, clip, interaction, seeds, clip_dof, pooled_dof)))


def test_without_seeds_it_is_statsmodels_power_of_a_t_test():
    """The variance between clips is known but for its degrees of freedom: a normal estimate against a t quantile."""
    power = pytest.importorskip("statsmodels.stats.power")
    for n in (60, 200, 1000):
        effect = power.tt_solve_power(nobs=n, alpha=ALPHA, power=0.8)
        mine = detectable_effect(design(clip=1 / n, seeds=1, clip_dof=n - 1))
        assert mine[0] == pytest.approx(effect, rel=1e-2)


@pytest.mark.parametrize(
    ("seed", "clip", "seeds", "pooled_dof"), [(1, 1, 3, 10), (4, 0.5, 3, 10), (1, 1, 2, 5), (9, 1, 5, 20), (4, 0.5, 3, 0)]
)
@pytest.mark.parametrize("level", [0.05, 0.01])
def test_so_large_an_effect_is_found_in_80_percent_of_repetitions(seed, clip, seeds, pooled_dof, level):
    effect = detectable_effect(design(seed, clip, seeds=seeds, pooled_dof=pooled_dof), level)[0]
    random, runs = np.random.default_rng(1), 40_000
    value = effect + math.sqrt(clip + seed / seeds) * random.normal(size=runs)
    own = seed / seeds * random.chisquare(seeds - 1, runs) / (seeds - 1)
    pooled = seed / seeds * random.chisquare(pooled_dof, runs) / pooled_dof if pooled_dof else own
    variance, dof = larger_variance(own, np.full(runs, seeds - 1.0), pooled, np.full(runs, pooled_dof or seeds - 1.0))
    whole = np.full(runs, float(clip)), np.full(runs, 600.0)
    total, freedom = combined(*whole, variance, dof, np.zeros(runs), np.full(runs, 600.0))
    found = (np.abs(value) > stats.t.ppf(1 - level / 2, freedom) * np.sqrt(total)).mean()
    assert found == pytest.approx(0.8, abs=0.02)


def test_the_effect_shrinks_with_seeds_items_and_level():
    effects = [detectable_effect(design(4, 1, seeds=seeds, pooled_dof=5 * (seeds - 1)))[0] for seeds in (2, 3, 5, 20)]
    assert effects == sorted(effects, reverse=True)
    assert detectable_effect(design(4, 0.1, pooled_dof=10))[0] < detectable_effect(design(4, 1, pooled_dof=10))[0]
    assert detectable_effect(design(4, 1), 0.01)[0] > detectable_effect(design(4, 1), 0.05)[0]
    assert np.isnan(detectable_effect(design(math.nan, 1))[0])


def test_the_required_sizes_are_just_enough():
    """So many seeds, or items, make the margin detectable, and one step fewer does not."""
    random = np.random.default_rng(8)
    values, clips = noisy(random, 200, 2, 4, of_clip=0.02, of_seed=0.02)
    one = estimate(values, clips)
    margin = 0.03
    [needed] = required_sizes([one], margin)
    assert 4 < needed.seeds < 100
    assert needed.seeds_low <= needed.seeds <= (needed.seeds_high or math.inf)
    parts = one.components
    for number, enough in ((needed.seeds, True), (needed.seeds - 1, False)):
        with_seeds = design(parts.seed, parts.clip, parts.interaction, number, one.clip_dof)
        assert (detectable_effect(with_seeds)[0] <= margin) == enough
    assert needed.items is None or needed.items > 400
    alike = estimate(values - values.mean(axis=0), clips)  # seeds do not differ: items help
    assert required_sizes([alike], 0.02)[0].items is not None
    assert required_sizes([estimate(values[:, :1], clips)], margin)[0].seeds is None  # one seed does not tell


def test_a_stricter_level_needs_more_seeds():
    random = np.random.default_rng(8)
    one = estimate(*noisy(random, 200, 2, 4, of_clip=0.02, of_seed=0.02))
    lenient, strict = (required_sizes([one], 0.03, level)[0].seeds for level in (0.05, 0.005))
    assert lenient < strict


def test_nothing_is_needed_of_nothing():
    assert required_sizes([], 0.02) == []
    assert detectable_effect(designs_of([])).shape == (0,)
