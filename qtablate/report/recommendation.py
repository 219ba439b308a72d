"""Which conditions may be the best, which cheaper ones are as good, and what to train with; or why nothing is recommended.

- A condition is *surely worse* where the condition of the highest accuracy beats it in a one-sided test at the level ALPHA over
  the number of other conditions. So the true best is among those that are not surely worse in 95 % of all repetitions, however
  the highest was chosen (multiple comparisons with the best: Hsu 1984, doi 10.1214/aos/1176346732, with Bonferroni's bound).
- A condition is *equivalent to the best* where it is surely less than the margin below every other condition: one-sided tests,
  all of which must reject, adjusted over the conditions (Holm).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from qtablate.report.answers import Answers, Condition
from qtablate.report.contrasts import SIMPLE, Contrast
from qtablate.report.effects import estimate_accuracies, same_budget
from qtablate.report.rows import Row
from qtablate.report.verdicts import EQUIVALENT, NOT_COMPARABLE, UNDECIDED, WORSE
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.estimate import ALPHA, Estimate, holm

BEST, HIGHEST = "best", "highest"
"""The condition of the highest accuracy: `best` where the data support it, `highest` where they do not."""
ERRORS = 2
"""Standard errors by which an accuracy must exceed chance, and its blind control, for its condition to be advised."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The condition of the highest accuracy minus another one."""

    estimate: Estimate
    level: float
    """Of the one-sided test that calls the other one surely worse."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """All conditions that can be advised, against the one of the highest accuracy."""

    highest: Condition
    standing: Mapping[Condition, str]
    """HIGHEST, EQUIVALENT, UNDECIDED (not surely worse), WORSE (surely worse) or NOT_COMPARABLE. Conditions that break a rule
    of accumulation have none; identical ones stand alike."""
    comparisons: Mapping[Condition, Comparison]
    """Of every other comparable condition, identical ones once."""


def rank_conditions(answers: Answers, margin: float) -> Ranking | None:
    """Compare all finished conditions with the one of the highest accuracy; None where none is finished.

    Args:
        answers: of the finished cells.
        margin: difference of accuracies, as a share, that does not matter.
    """
    correct = [condition for condition in answers.conditions if not answers.is_incorrect(condition)]
    distinct = [condition for condition in correct if answers.identical.get(condition) not in correct]
    if not distinct:
        return None
    highest = max(distinct, key=lambda condition: mean_accuracy(answers, condition))
    comparable = [other for other in distinct if other != highest and same_budget(answers, (highest, other))]
    contrasts = {other: _minus(highest, other) for other in comparable}
    estimates = dict(zip(comparable, estimate_accuracies(answers, list(contrasts.values())), strict=True))
    level = ALPHA / max(1, len(comparable))
    comparisons = {other: Comparison(estimate, level) for other, estimate in estimates.items()}
    standing = dict.fromkeys(correct, NOT_COMPARABLE)
    standing |= {other: WORSE if estimate.p_above(0) < level else UNDECIDED for other, estimate in estimates.items()}
    standing |= dict.fromkeys(_equivalent(answers, comparable, estimates, margin), EQUIVALENT)
    standing[highest] = HIGHEST
    standing |= {twin: standing[first] for twin, first in answers.identical.items() if first in standing and twin in standing}
    return Ranking(highest, standing, comparisons)


def _equivalent(
    answers: Answers, comparable: list[Condition], estimates: Mapping[Condition, Estimate], margin: float
) -> list[Condition]:
    """Return the conditions that are surely less than the margin below every comparable condition.

    Args:
        answers: of the finished cells.
        comparable: the conditions but the highest.
        estimates: of the highest minus each of them. It is the hardest to come near to nearly always, so that the others are
            compared only where that leaves hope.
        margin: as a share.
    """
    p = {candidate: estimates[candidate].p_below(margin) for candidate in comparable}
    pairs = [
        (other, candidate) for candidate in comparable if p[candidate] < ALPHA for other in comparable if other != candidate
    ]
    found = estimate_accuracies(answers, [_minus(*pair) for pair in pairs])
    for (_, candidate), one in zip(pairs, found, strict=True):
        p[candidate] = max(p[candidate], one.p_below(margin))
    adjusted = holm(list(p.values()))
    return [candidate for candidate, value in zip(comparable, adjusted, strict=True) if value < ALPHA]


def _minus(condition: Condition, other: Condition) -> Contrast:
    return Contrast(SIMPLE, "condition", HIGHEST, "", {condition: 1.0, other: -1.0})


def mean_accuracy(answers: Answers, condition: Condition) -> float:
    """Return the accuracy of a condition, mean over its finished seeds."""
    seeds = answers.seeds_of(condition)
    return sum(float(answers.correct[condition, seed].mean()) for seed in seeds) / len(seeds)


def above_chance(row: Row) -> bool:
    """Whether a condition of the summary is above chance, and above its blind control where that was run.

    Above means by ERRORS standard errors over items, of at least MIN_CLIPS clips.
    """
    gains = [(row["accuracy"] - row["chance"], row["accuracy_item_stderr"])]
    if not pd.isna(row["visual_gain"]):
        gains.append((row["visual_gain"], row["visual_gain_item_stderr"]))
    return bool(row["n_clusters"] >= MIN_CLIPS and all(gain > ERRORS * error for gain, error in gains))
