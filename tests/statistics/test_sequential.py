"""Looks: shares of the error, tests that reject for good, and what repeated looks do to intervals and p-values."""

import dataclasses
import math

import numpy as np
import pytest

from qtablate.statistics.distributions import t_quantile, t_tail
from qtablate.statistics.estimate import ALPHA, estimate, holm
from qtablate.statistics.sequential import error_share, looks, rejected


@pytest.mark.parametrize("planned", range(1, 31))
def test_the_shares_of_all_looks_are_the_whole_error(planned):
    assert sum(error_share(seeds, planned) for seeds in looks(planned)) == pytest.approx(1)


def test_there_is_no_look_before_the_third_seed_and_half_of_the_error_is_kept_for_the_last():
    assert [error_share(seeds, 8) for seeds in range(1, 9)] == [0, 0, *[pytest.approx(0.1)] * 5, 0.5]
    assert error_share(9, 8) == 0.5  # more cannot be had


def test_t_tests_at_these_looks_err_in_at_most_5_percent_and_looks_at_the_whole_level_in_far_more():
    """Tests of independent values, each with its own variance: t-statistics of 2 to 7 degrees of freedom."""
    values = np.random.default_rng(0).normal(size=(20_000, 8))
    any_of_shares, any_naive = np.zeros(len(values), bool), np.zeros(len(values), bool)
    for seeds in looks(8):
        first = values[:, :seeds]
        p = 2 * t_tail(abs(first.mean(axis=1)) / first.std(axis=1, ddof=1) * seeds**0.5, seeds - 1)
        any_of_shares |= p < ALPHA * error_share(seeds, 8)
        any_naive |= p < ALPHA
    assert 0.03 < any_of_shares.mean() <= 0.05
    assert any_naive.mean() > 0.12


def test_a_look_widens_the_interval_and_raises_p_by_its_share():
    random = np.random.default_rng(1)
    plain = estimate(random.normal(0.1, 1, (60, 4)), np.arange(60) // 2)
    look = dataclasses.replace(plain, error_share=0.1)
    assert look.p == pytest.approx(min(1, 10 * plain.p))
    assert look.p_tost(0.5) == pytest.approx(10 * plain.p_tost(0.5))
    assert look.p_above(-0.5) == pytest.approx(10 * plain.p_above(-0.5))
    assert look.p_below(0.5) == pytest.approx(10 * plain.p_below(0.5))
    low, high = look.interval()
    assert high - look.value == pytest.approx(t_quantile(1 - 0.1 * ALPHA / 2, look.dof) * look.stderr)
    assert low == pytest.approx(2 * look.value - high)
    # the interval and p agree: where one end is 0, p is the level
    at_zero = dataclasses.replace(look, value=high - look.value)
    assert at_zero.p == pytest.approx(ALPHA)


def test_before_the_first_look_nothing_is_claimed():
    plain = estimate(np.random.default_rng(1).normal(1, 1, (60, 2)), np.arange(60) // 2)
    early = dataclasses.replace(plain, error_share=0.0)
    assert all(map(math.isnan, (*early.interval(), early.p, early.p_tost(1), early.p_above(0), early.p_below(0))))


def test_one_sided_p_values_are_each_others_counterparts():
    plain = estimate(np.random.default_rng(2).normal(0.1, 1, (60, 4)), np.arange(60) // 2)
    assert plain.p_below(0.3) == pytest.approx(1 - plain.p_above(0.3))


def test_rejected_for_good_is_rejected_by_holm_whatever_becomes_of_tests_that_are_not_settled():
    random = np.random.default_rng(3)
    some, by_settled = 0, 0
    for _ in range(2000):
        p = random.uniform(size=5) ** 4
        p[random.uniform(size=5) < 0.1] = np.nan
        settled = random.uniform(size=5) < 0.4
        found = rejected(p, settled)
        later = np.where(settled | np.isnan(p), p, random.uniform(size=5))
        assert not (found & settled & (np.array(holm(later.tolist())) >= ALPHA)).any()
        assert not (found & ~(np.array(holm(p.tolist())) < ALPHA)).any()
        some += found.any()
        by_settled += (found & ~(p * np.isfinite(p).sum() < ALPHA)).any()
    assert some > 100  # the test would notice if nothing were rejected, or nothing made room
    assert by_settled > 20


def test_missing_p_values_are_neither_rejected_nor_counted():
    assert rejected(np.array([np.nan, 0.03]), np.zeros(2, bool)).tolist() == [False, True]
    assert rejected(np.array([np.nan, 0.0]), np.ones(2, bool)).tolist() == [False, True]
    assert rejected(np.zeros(0), np.zeros(0, bool)).tolist() == []
