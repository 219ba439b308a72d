"""Find conditions that are one and the same run: equal training losses, step for step, and equal answers at common seeds.

Orders of media where a batch holds all of them, loss norms that only scale the gradient under AdamW, and the splits of one
batch are such conditions. Their comparison would compare a run with itself.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

C = TypeVar("C", bound=Hashable)
"""A condition."""

LOSS_TOLERANCE = 1e-4
"""Largest relative difference of the losses at any step of two runs that are one but for rounding."""
ANSWER_TOLERANCE = 0.01
"""Largest share of answers in which they may differ: rounding decides near-ties."""

Run = tuple[NDArray[np.float64], NDArray[np.float64]]
"""(steps,) training losses and (items,) answers, 1 for a correct one, of a finished cell."""


def identical_runs(runs: Mapping[tuple[C, int], Run]) -> dict[C, C]:
    """Map each condition that is the same run as an earlier one to the first of them.

    Args:
        runs: (condition, seed) -> losses and answers.
    """
    by_condition: dict[C, dict[int, Run]] = {}
    for (condition, seed), run in runs.items():
        by_condition.setdefault(condition, {})[seed] = run
    first_of: dict[C, C] = {}
    distinct: list[C] = []
    for condition, of_seed in by_condition.items():
        same = next((other for other in distinct if _coincide(by_condition[other], of_seed)), None)
        if same is None:
            distinct.append(condition)
        else:
            first_of[condition] = same
    return first_of


def _coincide(first: Mapping[int, Run], second: Mapping[int, Run]) -> bool:
    """Whether two conditions coincide at all seeds that both have finished, one at least."""
    common = first.keys() & second.keys()
    return bool(common) and all(
        largest_difference(first[seed][0], second[seed][0]) <= LOSS_TOLERANCE
        and bool((first[seed][1] != second[seed][1]).mean() <= ANSWER_TOLERANCE)
        for seed in common
    )


def largest_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest relative difference of two runs' losses at any step; infinite where their steps differ."""
    if len(first) != len(second) or not np.isfinite(first).any() or (np.isnan(first) != np.isnan(second)).any():
        return float("inf")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.nanmax(np.abs(second - first) / np.abs(first), initial=0.0))
