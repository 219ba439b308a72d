"""Estimate contrasts: the difference of each, its interval, p-values and verdict, over all items and per task.

Differences are taken item by item and seed by seed, over the seeds that have finished all conditions of a contrast. families.py
says which p-values are adjusted together. What compares a run with itself is not tested.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from qtablate import axes
from qtablate.report.answers import ACCURACY, Answers, Condition, Values
from qtablate.report.contrasts import CORRECT_LEVELS, Contrast
from qtablate.report.families import ALL, Tests, Weights
from qtablate.report.rows import Row
from qtablate.report.sentences import comparison_label
from qtablate.report.verdicts import IDENTICAL, ITEMS_AND_SEEDS, ITEMS_ONLY, NOT_COMPARABLE, UNDECIDED, judge
from qtablate.statistics.estimate import ClipGroups, Estimate, Floats, SeedVariance, estimate, pooled_seed_variance
from qtablate.statistics.power import NOTHING_NEEDED, designs_of, detectable_effect, required_sizes
from qtablate.statistics.sequential import error_share

BUDGET_TOLERANCE = 0.01
"""Share by which budgets may differ and still be the same: a skipped window, a budget that ends in the middle of a sample."""
ESTIMATE_COLUMNS = (
    "difference",
    "stderr",
    "ci_low",
    "ci_high",
    "dof",
    "p",
    "p_holm",
    "p_tost",
    "margin",
    "verdict",
)
"""Of a difference and what is said of it, in the order of files."""
COLUMNS = (
    "outcome",
    "primary",
    "kind",
    "axis",
    "level",
    "baseline",
    "other_axis",
    "other_level",
    "other_baseline",
    "fixed_levels",
    "task",
    *ESTIMATE_COLUMNS,
    "p_axis",
    "mde",
    "mde_level",
    "seeds_needed",
    "seeds_needed_low",
    "seeds_needed_high",
    "items_needed",
    "seeds",
    "n_items",
    "n_clusters",
    "effective_clusters",
    "uncertainty",
    "incorrect",
    "same_as",
)


@dataclass(frozen=True, slots=True)
class _Effect:
    """A contrast as estimated on the items of one task, or of all."""

    contrast: Contrast
    outcome: str
    task: str
    estimate: Estimate
    weights: Weights

    @property
    def is_of_all_accuracies(self) -> bool:
        """Whether it is the accuracy over all items."""
        return self.task == ALL and self.outcome == ACCURACY


def contrast_frame(
    answers: Answers,
    contrasts: Sequence[Contrast],
    margin: float,
    per_task: bool = True,
    outcomes: Sequence[str] | None = None,
    power: bool = True,
) -> pd.DataFrame:
    """Return a row per outcome, contrast and task, the rows of all items first.

    Args:
        answers: of the finished cells.
        contrasts: what to estimate.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
        per_task: whether to estimate the accuracy on each task too.
        outcomes: which; None: all that the cells have.
        power: whether to fill in what could have been detected and what it would take; takes most of the time.
    """
    effects = _estimates(answers, contrasts, per_task, outcomes or answers.outcomes)
    frame = pd.DataFrame([_row(effect, margin) for effect in effects], columns=list(COLUMNS))
    unequal = np.array([not same_budget(answers, effect.contrast.weights) for effect in effects], dtype=np.bool_)
    identical = np.array([not effect.weights for effect in effects], dtype=np.bool_)
    frame.loc[unequal | identical, ["p", "p_tost", "ci_low", "ci_high"]] = math.nan
    frame.loc[identical, ["stderr", "dof"]] = math.nan
    frame.loc[frame["outcome"] != ACCURACY, "p_tost"] = math.nan  # the margin is one of accuracies
    tests = Tests.of([(effect.outcome, effect.task, effect.contrast, effect.weights) for effect in effects])
    frame["primary"] = tests.primary
    frame["same_as"] = ["" if row is None else comparison_label(_row(effects[row], margin)) for row in tests.same_as]
    frame["p_holm"] = tests.adjusted(frame["p"])
    frame["p_tost"] = tests.adjusted(frame["p_tost"])
    frame["p_axis"] = tests.adjusted_by_axis(frame["p"])
    judge(frame)
    frame.loc[unequal, "verdict"] = NOT_COMPARABLE
    frame.loc[identical, "verdict"] = IDENTICAL
    return _with_power(frame, effects, tests, margin) if power else frame


def _with_power(frame: pd.DataFrame, effects: Sequence[_Effect], tests: Tests, margin: float) -> pd.DataFrame:
    """Fill in what each contrast could have detected, and what it would take to detect the margin."""
    undecided = (frame["verdict"] == UNDECIDED).to_numpy()
    level = np.where(frame["stderr"].isna(), math.nan, tests.levels(frame["p"]))
    at_look = level * np.array([effect.estimate.error_share or math.nan for effect in effects])
    frame["mde_level"] = at_look
    frame["mde"] = detectable_effect(designs_of([effect.estimate for effect in effects]), at_look)
    asked = [number for number, effect in enumerate(effects) if undecided[number] and effect.is_of_all_accuracies]
    needed = required_sizes([effects[number].estimate for number in asked], margin, level[asked])
    by_number = dict(zip(asked, needed, strict=True))
    sizes = [by_number.get(number, NOTHING_NEEDED) for number in range(len(effects))]
    frame["seeds_needed"] = [each.seeds for each in sizes]
    frame["seeds_needed_low"] = [each.seeds_low for each in sizes]
    frame["seeds_needed_high"] = [each.seeds_high for each in sizes]
    frame["items_needed"] = [each.items for each in sizes]
    return frame


def _estimates(answers: Answers, contrasts: Sequence[Contrast], per_task: bool, outcomes: Sequence[str]) -> list[_Effect]:
    """Estimate every contrast over all items, and then the accuracy task by task."""
    tasks = list(dict.fromkeys(answers.tasks.tolist())) if per_task else []
    tested = [_Tested.of(answers, contrast) for contrast in contrasts]
    effects = []
    for outcome, task in [*((outcome, ALL) for outcome in outcomes), *((ACCURACY, task) for task in tasks)]:
        mask = np.ones(len(answers.clips), dtype=np.bool_) if task == ALL else answers.tasks == task
        values = {cell: of_items[mask] for cell, of_items in answers.values(outcome).items()}
        columns, clips = _columns(answers, values), ClipGroups.of(answers.clips[mask])
        pooled_until = _pooled_until(answers, values)
        for one in tested:
            seeds, difference = _difference(columns, one.contrast, len(clips.numbers))
            pooled = pooled_until(one.incorrect, seeds[-1]) if seeds else None
            estimated = _at_its_look(estimate(difference, clips, pooled, one.squares), len(answers.planned_seeds))
            effects.append(_Effect(one.contrast, outcome, task, estimated, one.weights))
    return effects


@dataclass(frozen=True, slots=True)
class _Tested:
    """A contrast, and what its test rests on beside the answers."""

    contrast: Contrast
    weights: Weights
    squares: float
    """See `squared_weights`."""
    incorrect: bool
    """Whether one of its conditions breaks a rule of accumulation."""

    @classmethod
    def of(cls, answers: Answers, contrast: Contrast) -> "_Tested":
        incorrect = any(map(answers.is_incorrect, contrast.weights))
        return cls(contrast, weights_of_runs(answers, contrast), squared_weights(answers, contrast), incorrect)


def weights_of_runs(answers: Answers, contrast: Contrast) -> Weights:
    """Return the weights of a contrast with identical runs taken together, in the order of the conditions."""
    weights = weights_by(contrast, lambda condition: answers.identical.get(condition, condition))
    return tuple((run, weights[run]) for run in sorted(weights, key=answers.places.__getitem__) if abs(weights[run]) > 1e-9)


def weights_by(contrast: Contrast, run_of: Callable[[Condition], Condition]) -> dict[Condition, float]:
    """Return the weights of a contrast with the conditions of one run taken together.

    Args:
        contrast: a weighted sum of conditions.
        run_of: returns the same value for conditions that are one run.
    """
    weights: dict[Condition, float] = {}
    for condition, weight in contrast.weights.items():
        run = run_of(condition)
        weights[run] = weights.get(run, 0.0) + weight
    return weights


def squared_weights(answers: Answers, contrast: Contrast) -> float:
    """Return the sum of the squared weights with which runs enter a contrast.

    Conditions that are one run have their seed's part in common; where those cancel, what rounding did to them is left.
    """
    both = (contrast.weights, weights_by(contrast, answers.run_of))
    return max(sum(weight**2 for weight in weights.values()) for weights in both)


def estimate_accuracies(answers: Answers, contrasts: Sequence[Contrast]) -> list[Estimate]:
    """Estimate contrasts of accuracies over all items."""
    return [effect.estimate for effect in _estimates(answers, contrasts, False, (ACCURACY,))]


def same_budget(answers: Answers, conditions: Iterable[Condition]) -> bool:
    """Whether all these conditions used the same budget."""
    used = [answers.budgets[condition] for condition in conditions if condition in answers.budgets]
    return not used or max(used) - min(used) <= BUDGET_TOLERANCE * max(used)


def pooled_over(answers: Answers, values: Values, incorrect: bool = False) -> SeedVariance | None:
    """Pool the variance between seeds over the conditions; conditions that are one run count once.

    Args:
        answers: of the finished cells.
        values: the measure of every answer.
        incorrect: whether to include conditions that break a rule of accumulation. They may vary more between seeds.
    """
    numbers: dict[Condition, int] = {}
    runs = set()
    correct = [condition for condition in answers.conditions if incorrect or not answers.is_incorrect(condition)]
    for condition in correct or answers.conditions:
        run = answers.run_of(condition)
        if run not in runs:
            runs.add(run)
            numbers[condition] = len(numbers)
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(seed for _, seed in values))}
    means = np.full((len(numbers), len(seeds)), np.nan)
    for (condition, seed), of_items in values.items():
        if condition in numbers:
            means[numbers[condition], seeds[seed]] = of_items.mean() if len(of_items) else np.nan
    return pooled_seed_variance(means)


PooledUntil = Callable[[bool, int], SeedVariance | None]
"""Pools the variance between seeds over the conditions, incorrect ones included or not, up to a seed."""


def _pooled_until(answers: Answers, values: Values) -> PooledUntil:
    """Return what pools the variance between seeds of a measure of the answers.

    Where seeds are added until contrasts are decided, that of a contrast which was decided is of the seeds up to its last one:
    what was decided stays as it was, whatever other conditions' further seeds show.
    """

    @cache
    def pooled(incorrect: bool, last: int) -> SeedVariance | None:
        if not planned:
            return pooled_over(answers, values, incorrect)
        earlier = planned[: planned.index(last) + 1]
        return pooled_over(answers, {cell: found for cell, found in values.items() if cell[1] in earlier}, incorrect)

    planned = answers.planned_seeds
    return lambda incorrect, last: pooled(incorrect, last if planned else 0)


def _at_its_look(found: Estimate, planned: int) -> Estimate:
    """Return an estimate that has the share of the error of its look, where seeds are added until contrasts are decided."""
    return dataclasses.replace(found, error_share=error_share(found.seeds, planned)) if planned else found


@dataclass(frozen=True, slots=True, eq=False)
class _Columns:
    """A measure of the answers of one condition."""

    seeds: list[int]
    values: Floats
    """(items, seeds)."""

    def of(self, seeds: list[int]) -> Floats:
        """Return the columns of these seeds, in their order."""
        return self.values if seeds == self.seeds else self.values.take([self.seeds.index(seed) for seed in seeds], axis=1)


def _columns(answers: Answers, values: Values) -> dict[Condition, _Columns]:
    """Return the values of every condition that has any, its seeds side by side."""
    columns = {}
    for condition in answers.conditions:
        seeds = [seed for seed in answers.seeds_of(condition) if (condition, seed) in values]
        if seeds:
            columns[condition] = _Columns(seeds, np.stack([values[condition, seed] for seed in seeds], axis=1))
    return columns


def _difference(columns: Mapping[Condition, _Columns], contrast: Contrast, items: int) -> tuple[list[int], Floats]:
    """Return the seeds that have finished all conditions of a contrast, and its differences over them: (items, seeds)."""
    parts = [(weight, columns.get(condition, _NONE)) for condition, weight in contrast.weights.items()]
    seeds = [seed for seed in parts[0][1].seeds if all(seed in part.seeds for _, part in parts)]
    difference = np.zeros((items, len(seeds)))
    for weight, part in parts if seeds else ():
        difference += weight * part.of(seeds)
    return seeds, difference


_NONE = _Columns([], np.zeros((0, 0)))


def estimate_columns(value: Estimate, margin: float) -> Row:
    """Return a difference with its uncertainty by column; `judge` adds what depends on its family of tests."""
    low, high = value.interval()
    return {
        "difference": value.value,
        "stderr": value.stderr,
        "ci_low": low,
        "ci_high": high,
        "dof": value.dof,
        "p": value.p,
        "p_tost": value.p_tost(margin),
        "margin": margin,
        "n_items": value.items,
        "n_clusters": value.clips,
        "uncertainty": "" if math.isnan(value.stderr) else ITEMS_AND_SEEDS if value.seed_dof else ITEMS_ONLY,
    }


def _row(effect: _Effect, margin: float) -> Row:
    contrast = effect.contrast
    fixed = [(axis, "+".join(axes.show_level(axis, level) for level in levels)) for axis, levels in contrast.fixed_levels]
    return {
        "outcome": effect.outcome,
        "kind": contrast.kind,
        "axis": contrast.axis,
        "level": contrast.level,
        "baseline": contrast.baseline,
        "other_axis": contrast.other_axis,
        "other_level": contrast.other_level,
        "other_baseline": contrast.other_baseline,
        "task": effect.task,
        "fixed_levels": "; ".join(f"{axis}={levels}" for axis, levels in fixed),
        **estimate_columns(effect.estimate, margin),
        "seeds": effect.estimate.seeds,
        "effective_clusters": effect.estimate.clip_dof + 1,
        "incorrect": contrast.axis in CORRECT_LEVELS and contrast.level != CORRECT_LEVELS[contrast.axis],
    }
