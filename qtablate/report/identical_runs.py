"""Find conditions that are one and the same run: the same training losses, step for step, at every common seed.

Mixed media where there is one medium, loss norms that only scale the gradient under AdamW, and the split of one batch are such
conditions. What is called a comparison of them compares a run with itself.
"""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

C = TypeVar("C", bound=Hashable)
"""A condition."""

LOSS_TOLERANCE = 1e-4
"""Largest relative difference of the losses at any step of two runs that are one but for rounding."""


def identical_runs(losses: Mapping[tuple[C, int], NDArray[np.float64]]) -> dict[C, C]:
    """Map each condition that is the same run as an earlier one to the first of them.

    Args:
        losses: (condition, seed) -> (steps,) training losses of a finished cell.
    """
    by_condition: dict[C, dict[int, NDArray[np.float64]]] = {}
    for (condition, seed), values in losses.items():
        by_condition.setdefault(condition, {})[seed] = values
    first_of: dict[C, C] = {}
    distinct: list[C] = []
    for condition, runs in by_condition.items():
        same = next((other for other in distinct if _coincide(by_condition[other], runs)), None)
        if same is None:
            distinct.append(condition)
        else:
            first_of[condition] = same
    return first_of


def _coincide(first: Mapping[int, NDArray[np.float64]], second: Mapping[int, NDArray[np.float64]]) -> bool:
    """Whether the runs of two conditions coincide at all seeds that both have finished, one at least."""
    common = first.keys() & second.keys()
    return bool(common) and all(largest_difference(first[seed], second[seed]) <= LOSS_TOLERANCE for seed in common)


def largest_difference(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Return the largest relative difference of two runs' losses at any step; infinite where their steps differ in number."""
    if len(first) != len(second) or not len(first):
        return float("inf")
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(second - first) / np.abs(first)
    return float(np.nanmax(difference, initial=0.0))


def groups_of(first_of: Mapping[C, C], conditions: Sequence[C]) -> list[tuple[C, ...]]:
    """Return the groups of conditions that are one run, in the order of the conditions."""
    groups: dict[C, list[C]] = {}
    for condition in conditions:
        groups.setdefault(first_of.get(condition, condition), []).append(condition)
    return [tuple(group) for group in groups.values() if len(group) > 1]
