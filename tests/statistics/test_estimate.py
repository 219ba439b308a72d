"""Estimates against another library, against simulations with known effects, and by hand."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from crossed import noisy
from scipy import stats

from qtablate.statistics.clustered import clip_variance
from qtablate.statistics.estimate import ALPHA, SeedVariance, combined, estimate, holm, larger_variance, pooled_seed_variance
from qtablate.statistics.power import designs_of, detectable_effect, required_sizes


def test_one_item_a_clip_and_one_seed_is_the_paired_t_test():
    random = np.random.default_rng(1)
    a, b = random.normal(0.1, 1, 50), random.normal(0, 1, 50)
    one, other = estimate((a - b)[:, None], np.arange(50)), stats.ttest_rel(a, b)
    assert one.p == pytest.approx(other.pvalue, rel=1e-12)
    assert one.interval() == pytest.approx(tuple(other.confidence_interval()), rel=1e-9)
    assert one.components is None  # what another seed would change is not known


def test_clips_of_one_size_are_the_clustered_standard_error_of_statsmodels():
    """With clips of unequal sizes statsmodels' estimate is too small on average; the correction is tested by itself."""
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(2)
    for clips, exact in ((np.repeat(np.arange(40), 5), True), (np.sort(random.integers(0, 40, 200)), False)):
        values = random.normal(size=200) + random.normal(size=40)[clips]
        fit = api.OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": clips, "use_correction": False})
        mine = estimate(values[:, None], clips)
        groups = len(set(clips.tolist()))
        usual = float(fit.bse[0]) * math.sqrt(groups / (groups - 1))
        assert mine.stderr == pytest.approx(usual, rel=1e-9 if exact else 0.02)
        assert mine.stderr >= usual * (1 - 1e-9)
        assert mine.dof == pytest.approx(groups - 1) if exact else mine.dof < groups - 1


def test_the_clip_variance_is_that_of_its_matrix():
    """Against the covariance matrix of the clips' deviations, written out."""
    random = np.random.default_rng(12)
    sizes = random.integers(1, 9, 30).astype(float)
    clips = np.repeat(np.arange(30), sizes.astype(int))
    values = random.normal(size=len(clips)) + random.normal(size=30)[clips]
    deviations = values - values.mean()
    sums = np.bincount(clips, deviations)
    found = clip_variance(sums, sizes, float(deviations @ deviations))
    between = float((sums**2 / sizes).sum())
    within = (float(deviations @ deviations) - between) / (len(clips) - 30)
    of_clips = (between / 29 - within) / ((len(clips) - float(sizes @ sizes) / len(clips)) / 29)
    rho = of_clips / (of_clips + within)
    totals = np.diag(sizes * (1 + (sizes - 1) * rho))
    centered = np.eye(30) - np.outer(sizes / len(clips), np.ones(30))
    matrix = centered @ totals @ centered.T
    assert found.correction == pytest.approx(totals.trace() / matrix.trace(), rel=1e-9)
    assert found.dof == pytest.approx(matrix.trace() ** 2 / (matrix @ matrix).trace(), rel=1e-9)
    assert found.variance == pytest.approx(found.correction * float(sums @ sums) / len(clips) ** 2, rel=1e-9)


def test_few_clips_that_hold_many_items_are_few_clips():
    """300 items, half of them in 4 clips. The intervals cover; with as many degrees of freedom as clips they do not."""
    random = np.random.default_rng(13)
    sizes = np.array([38, 38, 37, 37, *[1] * 150])
    clips = np.repeat(np.arange(len(sizes)), sizes)
    covered = {"effective": 0, "all": 0}
    for _ in range(600):
        values = random.normal(size=300) + 0.6 * random.normal(size=len(sizes))[clips]
        one = estimate(values[:, None], clips)
        usual = math.sqrt(len(sizes) / (len(sizes) - 1) * float((np.bincount(clips, values - values.mean()) ** 2).sum())) / 300
        covered["effective"] += abs(one.value) <= stats.t.ppf(0.975, one.dof) * one.stderr
        covered["all"] += abs(one.value) <= stats.t.ppf(0.975, len(sizes) - 1) * usual
    assert covered["effective"] / 600 >= 0.92
    assert covered["all"] / 600 < 0.89


def test_balanced_answers_agree_with_a_mixed_model_of_crossed_clips_and_seeds():
    """statsmodels' REML on the same data. They differ where it stops (1e-3) and agree in all else."""
    api = pytest.importorskip("statsmodels.api")
    random = np.random.default_rng(3)
    for _ in range(3):
        values, clips = noisy(random, 30, 1, 6, of_clip=0.2, of_seed=0.15)
        data = pd.DataFrame(
            {"y": values.ravel(), "clip": np.repeat(clips, 6), "seed": np.tile(np.arange(6), len(clips)), "one": np.ones(180)}
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = api.MixedLM.from_formula(
                "y ~ 1", groups="one", vc_formula={"clip": "0 + C(clip)", "seed": "0 + C(seed)"}, data=data
            )
            fit = model.fit(reml=True)
        mine = estimate(values, clips)
        assert mine.value == pytest.approx(float(fit.fe_params.iloc[0]), rel=1e-6)
        assert mine.stderr == pytest.approx(float(fit.bse_fe.iloc[0]), rel=2e-3)


def test_one_seed_of_a_sweep_with_others_takes_the_seeds_part_from_them():
    random = np.random.default_rng(9)
    values, clips = noisy(random, 200, 2, 1)
    alone = estimate(values, clips)
    noise = pooled_seed_variance(np.array([[0.5, 0.52], [0.6, 0.58]]))
    helped = estimate(values, clips, noise)
    assert helped.stderr**2 == pytest.approx(alone.stderr**2 + 2 * noise.variance)
    assert helped.dof < alone.dof
    assert (alone.seed_dof, helped.seed_dof) == (0, 1)
    assert required_sizes([helped], 0.02)[0].seeds is None


def test_the_larger_of_two_variances_comes_with_its_degrees_of_freedom():
    assert larger_variance(1.0, 2.0, 4.0, 10.0) == (4.0, pytest.approx(10.0))  # explained by the pooled one
    variance, dof = larger_variance(1e9, 2.0, 1.0, 10.0)
    assert (variance, dof) == (1e9, pytest.approx(2.0, rel=1e-3))  # by nothing but itself
    between = [larger_variance(own, 2.0, 1.0, 10.0)[1] for own in (1.0, 1.001, 1.2, 2.0, 8.0)]
    assert between == sorted(between, reverse=True)
    assert between[1] > 5  # no jump
    assert between[-2:] == [pytest.approx(2.0)] * 2
    assert larger_variance(0.0, 2.0, 0.0, 10.0) == (0.0, pytest.approx(10.0))


def test_a_pooled_variance_widens_and_never_narrows():
    random = np.random.default_rng(14)
    values, clips = noisy(random, 200, 2, 3, of_seed=0.05)
    alone = estimate(values, clips)
    own = float(values.mean(axis=0).var(ddof=1)) / 2
    assert estimate(values, clips, SeedVariance(own / 4, 10)).stderr == pytest.approx(alone.stderr)
    assert estimate(values, clips, SeedVariance(4 * own, 10)).stderr > 1.5 * alone.stderr


def test_the_seeds_part_by_hand():
    """Two clips of one item, three seeds. Clip means -.5 and .5 about 1; seed means 0, 1 and 2; nothing is left."""
    values = np.array([[-0.5, 0.5, 1.5], [0.5, 1.5, 2.5]])
    one = estimate(values, np.array([0, 1]))
    assert one.value == 1
    assert one.components is not None
    assert (one.components.seed, one.components.clip, one.components.interaction) == (
        pytest.approx(1),
        pytest.approx(0.25),
        pytest.approx(0),
    )
    assert one.stderr**2 == pytest.approx(1 / 3 + 0.25)
    raised = 1 / 3 * (1 + 4 / 2)  # for the degrees of freedom alone
    assert one.dof == pytest.approx((raised + 0.25) ** 2 / (raised**2 / 2 + 0.25**2))
    assert combined(0.25, 1.0, 1 / 3, 2.0, 0.0, 2.0) == (pytest.approx(1 / 3 + 0.25), pytest.approx(one.dof))


def test_five_items_a_clip_widen_the_interval_by_the_design_effect():
    """1 + 4 * rho for the variance, where rho is how much items of one clip agree."""
    random = np.random.default_rng(4)
    rho, ratios = 0.3, []
    for _ in range(60):
        numbers = np.repeat(np.arange(300), 5)
        values = math.sqrt(rho) * random.normal(size=300)[numbers] + math.sqrt(1 - rho) * random.normal(size=1500)
        clustered = estimate(values[:, None], numbers).stderr
        ratios.append(clustered**2 / estimate(values[:, None], np.arange(1500)).stderr ** 2)
    assert np.mean(ratios) == pytest.approx(1 + 4 * rho, rel=0.03)


def test_seed_noise_is_what_conditions_and_seeds_do_not_explain():
    """The residual mean square of a two-way table, with missing cells too."""
    table = np.array([[0.1, 0.2, 0.4], [0.3, 0.5, 0.5]])
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    noise = pooled_seed_variance(table)
    assert noise is not None
    assert (noise.variance, noise.dof) == (pytest.approx(np.square(rest).sum() / 2), 2)
    table[1, 2] = np.nan
    assert pooled_seed_variance(table).dof == 1  # 5 cells, 2 + 3 - 1 means
    shifted = pooled_seed_variance(table + np.array([[0.1, -0.2, 0.3]]) + np.array([[0.5], [0.2]]))
    assert shifted.variance == pytest.approx(pooled_seed_variance(table).variance)  # seeds that are better for all do not count
    assert pooled_seed_variance(table[:, :1]) is None
    assert pooled_seed_variance(table[:1]) is None
    assert pooled_seed_variance(np.full((2, 2), np.nan)) is None


def test_holm_is_that_of_statsmodels_and_leaves_out_what_is_missing():
    p = [0.01, 0.04, 0.03, 0.5, 0.005, 0.9]
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(p) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]))
    with_missing = holm([0.01, math.nan, 0.04])
    assert math.isnan(with_missing[1])
    assert with_missing[::2] == pytest.approx(holm([0.01, 0.04]))
    assert holm([]) == []


def simulated(random, conditions, seeds, effect=0.0, of_seed=0.02):
    """Right answers of conditions, of which the last is better by `effect`; 120 clips of 1 to 5 items."""
    clips = np.repeat(np.arange(120), random.integers(1, 6, 120))
    chance = random.uniform(0.3, 0.6, (1, len(clips), 1)) + 0.1 * random.choice([-1, 1], (conditions, 120, 1))[:, clips]
    chance = chance + random.normal(0, of_seed, (conditions, 1, seeds)).clip(-0.1, 0.1)
    chance[-1] += effect
    return (random.uniform(size=(conditions, len(clips), seeds)) < chance).astype(float), clips


def run(random, conditions, seeds, effect=0.0):
    right, clips = simulated(random, conditions, seeds, effect)
    noise = pooled_seed_variance(right.mean(axis=1))
    return [estimate(one - right[0], clips, noise) for one in right[1:]]


@pytest.mark.parametrize(("conditions", "seeds"), [(6, 3), (3, 5)])
def test_intervals_cover_and_families_hold(conditions, seeds):
    """The whole table is made by tests/benchmarks/calibration.py; these bounds are 3 standard errors of 500 runs wide."""
    random = np.random.default_rng(5)
    covered, claimed, found = 0, 0, 0
    for _ in range(500):
        low, high = run(random, conditions, seeds, 0.05)[-1].interval()
        covered += low <= 0.05 <= high
        claimed += min(holm([one.p for one in run(random, conditions, seeds)])) < ALPHA
    assert 0.92 <= covered / 500 <= 0.985
    assert claimed / 500 <= 0.08
    sizes = [run(random, conditions, seeds)[-1] for _ in range(50)]
    seen = float(np.median(detectable_effect(designs_of(sizes))))
    for _ in range(300):
        found += run(random, conditions, seeds, seen)[-1].p < ALPHA
    assert 0.7 <= found / 300 <= 0.9  # 80 % promised


def test_seeds_that_are_taken_for_fixed_do_not_cover():
    """The check of coverage bites: without the seeds' part it fails."""
    random = np.random.default_rng(6)
    covered = 0
    for _ in range(300):
        right, clips = simulated(random, 2, 5, of_seed=0.05)
        low, high = estimate((right[1] - right[0]).mean(axis=1, keepdims=True), clips).interval()
        covered += low <= 0 <= high
    assert covered / 300 < 0.8


def test_equivalence_is_two_one_sided_tests():
    random = np.random.default_rng(7)
    values = random.normal(0.01, 0.2, 400)
    one = estimate(values[:, None], np.arange(400))
    for margin in (0.02, 0.05):
        both = [stats.ttest_1samp(values, at, alternative=way).pvalue for at, way in ((-margin, "greater"), (margin, "less"))]
        assert one.p_tost(margin) == pytest.approx(max(both), rel=1e-9)
    low, high = one.interval(0.9)
    edge = max(abs(low), abs(high))
    assert one.p_tost(edge) == pytest.approx(0.05, rel=1e-6)  # the 90 % interval just fits


def test_nothing_to_estimate_is_missing_and_never_zero():
    for values in (np.zeros((0, 3)), np.zeros((4, 0))):
        one = estimate(values, np.zeros(len(values), np.int64))
        assert math.isnan(one.value)
        assert math.isnan(one.p)
    one_clip = estimate(np.ones((3, 2)), np.zeros(3, np.int64))
    assert one_clip.value == 1
    assert math.isnan(one_clip.stderr)


@pytest.mark.parametrize("seeds", [1, 3])
def test_answers_that_never_differ_are_no_proof_that_they_could_not(seeds):
    """Nine items that two models answer alike were once called equivalent within two points."""
    few, many = (estimate(np.zeros((n, seeds)), np.arange(n)) for n in (9, 2000))
    for one in (few, many):
        assert (one.value, one.p) == (0, 1)
    assert few.stderr == pytest.approx(1 / 9)
    assert few.p_tost(0.02) > 0.3
    low, high = few.interval()
    assert (low, high) == (pytest.approx(-high), pytest.approx(1 / 9 * stats.t.ppf(0.975, few.dof)))
    assert many.p_tost(0.02) < 0.001
