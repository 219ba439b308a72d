"""Verdicts from adjusted p-values."""

import math

import pytest

from qtablate.report.verdicts import verdict


@pytest.mark.parametrize(
    ("difference", "p", "p_tost", "word"),
    [
        (0.1, 0.01, 0.9, "better"),
        (-0.1, 0.01, 0.9, "worse"),
        (0.1, 0.2, 0.9, "undecided"),
        (0.001, 0.9, 0.01, "equivalent"),
        (0.001, 0.01, 0.01, "equivalent"),
        (0.1, math.nan, math.nan, ""),
    ],
)
def test_verdicts(difference, p, p_tost, word):
    assert verdict(difference, p, p_tost) == word
