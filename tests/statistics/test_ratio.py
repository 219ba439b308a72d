"""Fieller's interval of a ratio of means, against the t test that it inverts."""

import math

import numpy as np
import pytest
from scipy import stats

from qtablate.statistics.ratio import ratio_interval


def values(signal: float, count: int = 9, seed: int = 1):
    random = np.random.default_rng(seed)
    shared = random.standard_normal(count)
    return 20 + 3 * shared + random.standard_normal(count), signal + 0.5 * shared + 0.3 * random.standard_normal(count)


def p_of(ratio: float, top, bottom) -> float:
    return float(stats.ttest_1samp(top - ratio * bottom, 0).pvalue)


@pytest.mark.parametrize(("signal", "seed"), [(2.0, 1), (1.0, 2), (0.4, 3)])
def test_a_t_test_rejects_what_is_outside_and_no_ratio_inside(signal, seed):
    top, bottom = values(signal, seed=seed)
    low, high = ratio_interval(top, bottom, 0.95)
    assert 0 < low < top.mean() / bottom.mean() < high
    for end, outward in ((low, -1), (high, 1)):
        if math.isfinite(end):
            assert p_of(end, top, bottom) == pytest.approx(0.05, rel=1e-9)
            assert p_of(end * (1 + 0.01 * outward), top, bottom) < 0.05 < p_of(end * (1 - 0.01 * outward), top, bottom)


@pytest.mark.parametrize("signal", [0.1, 0.0, -0.1])
def test_a_denominator_that_may_be_zero_leaves_no_upper_end(signal):
    top, bottom = values(signal)
    low, high = ratio_interval(top, bottom, 0.95)
    assert high == math.inf
    assert p_of(low, top, bottom) == pytest.approx(0.05, rel=1e-9)
    assert all(p_of(ratio, top, bottom) > 0.05 for ratio in (1.01 * low, 2 * low, 1e6))


def test_values_that_tell_nothing_allow_every_ratio():
    random = np.random.default_rng(3)
    top, bottom = random.standard_normal((2, 9))
    assert ratio_interval(top, bottom, 0.95) == (0.0, math.inf)


def test_values_without_scatter_have_an_interval_without_width():
    assert ratio_interval(np.full(4, 6.0), np.full(4, 2.0), 0.95) == pytest.approx((3.0, 3.0))
