"""Tails and quantiles against scipy.stats."""

import numpy as np
import pytest
from scipy import stats

from qtablate.statistics.distributions import bartlett_p, chi2_quantile, chi2_tail, normal_tail, t_quantile, t_tail

DOFS = (0.3, 1.0, 2.0, 3.7, 10.0, 200.0, 1e6, np.inf, 0.0, np.nan)
SHARES = (1e-9, 0.025, 0.5, 0.9, 0.975, 1 - 1e-9)
VALUES = (-30.0, -1.7, 0.0, 0.4, 2.3, 12.0)


@pytest.mark.parametrize("dof", DOFS)
def test_student_t_is_that_of_scipy_stats(dof):
    np.testing.assert_array_equal(t_quantile(SHARES, dof), stats.t.ppf(SHARES, dof))
    np.testing.assert_array_equal(t_tail(VALUES, dof), stats.t.sf(VALUES, dof))


@pytest.mark.parametrize("dof", [one for one in DOFS if np.isfinite(one) and one > 0])
def test_chi_square_is_that_of_scipy_stats(dof):
    np.testing.assert_array_equal(chi2_quantile(SHARES, dof), stats.chi2.ppf(SHARES, dof))
    np.testing.assert_allclose(chi2_tail(np.abs(VALUES), dof), stats.chi2.sf(np.abs(VALUES), dof), rtol=1e-13)


def test_the_normal_tail_is_that_of_scipy_stats():
    np.testing.assert_array_equal(normal_tail(VALUES), stats.norm.sf(VALUES))


def test_bartlett_is_that_of_scipy_stats():
    rng = np.random.default_rng(0)
    for sizes, scales in (((3, 3), (1, 5)), ((3, 8, 5), (1, 1, 1)), ((40, 2, 11, 4), (1, 2, 3, 9))):
        groups = [scale * rng.normal(size=size) for size, scale in zip(sizes, scales, strict=True)]
        assert bartlett_p(groups) == pytest.approx(stats.bartlett(*groups).pvalue, rel=1e-10)
