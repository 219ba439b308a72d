"""Clustered standard errors against a direct formula, a bootstrap and statsmodels."""

import math
import random

import numpy as np
import pytest

from qtablate.statistics.clustered import clustered_mean

VALUES = [1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 0.0]
CLUSTERS = ["a", "a", "a", "b", "b", "c", "d"]


def clustered_items(groups: int, seed: int) -> tuple[list[float], list[str]]:
    """Right or wrong answers whose chance differs by clip, 1 to 6 items a clip."""
    draw = random.Random(seed)
    values, clusters = [], []
    for group in range(groups):
        chance = draw.random()
        for _ in range(draw.randint(1, 6)):
            values.append(float(draw.random() < chance))
            clusters.append(f"clip {group}")
    return values, clusters


def direct(values: list[float], clusters: list[str]) -> float:
    """The sandwich as a textbook writes it, in plain loops: G / (G - 1) * sum of squared cluster residuals / n^2."""
    mean = sum(values) / len(values)
    sums: dict[str, float] = {}
    for value, cluster in zip(values, clusters, strict=True):
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    g = len(sums)
    return math.sqrt(g / (g - 1) * sum(s * s for s in sums.values())) / len(values)


def test_by_hand():
    """Mean 4/7; cluster residuals 9/7, -8/7, 3/7, -4/7: sum of squares 170/49, times 4/3, root, over 7."""
    got = clustered_mean(VALUES, CLUSTERS)
    assert got.value == pytest.approx(4 / 7)
    assert got.stderr == pytest.approx(math.sqrt(4 / 3 * 170 / 49) / 7)
    assert got.n == 7


@pytest.mark.parametrize("seed", range(5))
def test_matches_the_direct_formula_in_any_order(seed):
    values, clusters = clustered_items(30, seed)
    expected = direct(values, clusters)
    pairs = list(zip(values, clusters, strict=True))
    random.Random(seed).shuffle(pairs)
    got = clustered_mean([value for value, _ in pairs], [cluster for _, cluster in pairs])
    assert got.stderr == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_matches_statsmodels(seed):
    """statsmodels' factor is G / (G - 1) * (n - 1) / (n - k), and k is 1 for an intercept: the same."""
    api = pytest.importorskip("statsmodels.api")
    values, clusters = clustered_items(40, seed)
    codes = np.unique(clusters, return_inverse=True)[1]
    fit = api.OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds={"groups": codes})
    got = clustered_mean(values, clusters)
    assert got.value == pytest.approx(fit.params[0])
    assert got.stderr == pytest.approx(fit.bse[0], rel=1e-10)


def test_matches_a_bootstrap_of_clips():
    values, clusters = clustered_items(150, 11)
    groups: dict[str, list[float]] = {}
    for value, cluster in zip(values, clusters, strict=True):
        groups.setdefault(cluster, []).append(value)
    sums = np.array([sum(group) for group in groups.values()])
    sizes = np.array([len(group) for group in groups.values()])
    drawn = np.random.default_rng(0).integers(len(sums), size=(4000, len(sums)))
    means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    assert clustered_mean(values, clusters).stderr == pytest.approx(means.std(), rel=0.05)


def test_every_item_its_own_clip_is_the_usual_standard_error():
    values = clustered_items(40, 3)[0]
    expected = np.std(values, ddof=1) / math.sqrt(len(values))
    assert clustered_mean(values, [str(n) for n in range(len(values))]).stderr == pytest.approx(expected)


@pytest.mark.parametrize("size", [2, 5])
def test_copies_of_an_item_within_its_clip_tell_nothing_new(size):
    """The naive error would shrink by sqrt(size); clustering widens it back by just that."""
    values = [float(n % 3 == 0) for n in range(40)]
    clips = [f"clip {n}" for n in range(40)]
    copies = clustered_mean(values * size, clips * size)
    naive = clustered_mean(values * size, [str(n) for n in range(40 * size)])
    assert copies.n == 40 * size
    assert copies.stderr == pytest.approx(clustered_mean(values, clips).stderr)
    correction = math.sqrt((40 / 39) / (40 * size / (40 * size - 1)))
    assert copies.stderr / naive.stderr == pytest.approx(math.sqrt(size) * correction)


def test_undefined_is_none_and_never_zero():
    nothing = clustered_mean([], [])
    assert (nothing.value, nothing.stderr, nothing.n) == (None, None, 0)
    one = clustered_mean([1.0, 0.0], ["a", "a"])
    assert (one.value, one.stderr, one.n) == (0.5, None, 2)


def test_two_clips_that_agree_have_an_error_of_zero():
    assert clustered_mean([1.0, 1.0], ["a", "b"]).stderr == 0.0


def test_interval_covers_the_truth():
    """Of 400 simulated benchmarks of 60 clips, 95 % intervals hold the true mean in about 95 %; naive ones do not."""
    random_ = np.random.default_rng(5)
    sizes = np.full(60, 5)
    clips = [str(clip) for clip, size in enumerate(sizes) for _ in range(size)]
    held = naive = 0
    for _ in range(400):
        chances = np.clip(random_.normal(0.5, 0.3, 60), 0, 1)
        values = (random_.random(300) < np.repeat(chances, sizes)).astype(float).tolist()
        got = clustered_mean(values, clips)
        held += abs(got.value - 0.5) <= 1.96 * got.stderr
        naive += abs(got.value - 0.5) <= 1.96 * math.sqrt(got.value * (1 - got.value) / 300)
    assert 0.92 <= held / 400 <= 0.975
    assert naive / 400 < 0.92
