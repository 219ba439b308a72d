"""Which conditions need no more seeds: all primary contrasts that they take part in are decided (`sweep --until-decided`).

The rule looks at the finished cells after the third seed and after each one that follows. A contrast is decided where it is
better, worse or equivalent at the level of its look (statistics/sequential.py), with Holm's adjustment over the primary
contrasts; or where no seed would tell more, because both sides are the same run or had other budgets. What was decided at an
earlier look is found again from the same answers: nothing but the answers is remembered.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qtablate.axes import Level
from qtablate.report.answers import Answers, Condition
from qtablate.report.contrasts import Contrast, contrasts
from qtablate.report.effects import estimate_accuracies, same_budget, weights_of_runs
from qtablate.report.families import are_primary
from qtablate.statistics.sequential import looks, rejected


def seeds_enough(answers: Answers, base: Mapping[str, Level], margin: float, seeds: int) -> dict[Condition, int]:
    """Return the conditions that need no more seeds, each with the number of seeds after which that was so.

    Args:
        answers: of the finished cells, with all planned seeds. Those of seeds that a condition did not need are not looked at.
        base: baseline level by axis.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
        seeds: that have been tried in every condition that needs them; later ones are not looked at.
    """
    enough: dict[Condition, int] = {}
    conditions: list[Condition] = []
    wanted: list[Contrast] = []
    planned = len(answers.planned_seeds)
    for look in looks(planned):
        if look > min(seeds, planned - 1):  # after the last seed there is nothing left to stop
            break
        known = answers_until(answers, enough, look)
        if known.conditions != conditions:
            conditions, found = known.conditions, contrasts(known, base)
            wanted = [contrast for contrast, primary in zip(found, are_primary(found), strict=True) if primary]
        done = _decided(known, wanted, margin, enough)
        for condition in conditions:
            own = [decided for contrast, decided in zip(wanted, done, strict=True) if condition in contrast.weights]
            if own and all(own):
                enough.setdefault(condition, look)
    return enough


def answers_until(answers: Answers, enough: Mapping[Condition, int], look: int) -> Answers:
    """Return the accuracies that a look sees: of each condition the first seeds, as many as it needed."""
    place = {seed: number for number, seed in enumerate(answers.planned_seeds)}
    seen = {
        (condition, seed): of_items
        for (condition, seed), of_items in answers.correct.items()
        if place[seed] < enough.get(condition, look)
    }
    return dataclasses.replace(answers, correct=seen, probability={}, log_margin={})


def _decided(answers: Answers, wanted: Sequence[Contrast], margin: float, enough: Mapping[Condition, int]) -> NDArray[np.bool_]:
    """Return which contrasts are decided."""
    estimates = estimate_accuracies(answers, wanted)
    pointless = np.array(
        [not weights_of_runs(answers, one) or not same_budget(answers, one.weights) for one in wanted], np.bool_
    )
    settled = np.array([any(condition in enough for condition in one.weights) for one in wanted], np.bool_)
    of_tests = ([one.p for one in estimates], [one.p_tost(margin) for one in estimates])
    different, equivalent = (rejected(np.where(pointless, np.nan, p), settled) for p in of_tests)
    out: NDArray[np.bool_] = different | equivalent | pointless
    return out
