"""Estimate contrasts: the difference of each, its interval, p-values and verdict, over all items and per task.

Differences are taken item by item and seed by seed, over the seeds that have finished all conditions of a contrast. Families of
tests for Holm's adjustment: the contrasts of one axis and kind, the interactions, and the tasks of one contrast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate import axes
from qtablate.report.answers import Answers, Condition
from qtablate.report.contrasts import CORRECT_LEVELS, Contrast
from qtablate.report.rows import Row
from qtablate.report.verdicts import ITEMS_AND_SEEDS, ITEMS_ONLY, NOT_COMPARABLE, UNDECIDED, judge
from qtablate.statistics.estimate import Estimate, SeedVariance, estimate, pooled_seed_variance
from qtablate.statistics.power import minimum_detectable_effect, required_sizes

BUDGET_TOLERANCE = 0.01
"""Share by which budgets may differ and still be the same: a skipped window, a budget that ends in the middle of a sample."""
ALL = "all"
"""What stands as the task where a contrast is over all items."""
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
    "mde",
    "seeds_needed",
    "items_needed",
    "seeds",
    "n_items",
    "n_clusters",
    "uncertainty",
    "incorrect",
)


@dataclass(frozen=True, slots=True)
class _Effect:
    """A contrast as estimated on the items of one task, or of all."""

    contrast: Contrast
    task: str
    estimate: Estimate


def contrast_frame(answers: Answers, contrasts: Sequence[Contrast], margin: float, per_task: bool = True) -> pd.DataFrame:
    """Return a row per contrast and task, the rows of all items first.

    Args:
        answers: of the finished cells.
        contrasts: what to estimate.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
        per_task: whether to estimate each task too.
    """
    effects = _estimates(answers, contrasts, per_task)
    frame = pd.DataFrame([_row(effect, margin) for effect in effects], columns=list(COLUMNS))
    families: dict[tuple[object, str], list[int]] = {}
    for number, effect in enumerate(effects):
        family = effect.contrast.family if effect.task == ALL else (id(effect.contrast), "tasks")
        families.setdefault(family, []).append(number)
    unequal = np.array([not _same_budget(answers, effect.contrast) for effect in effects], dtype=np.bool_)
    frame.loc[unequal, ["p", "p_tost", "ci_low", "ci_high"]] = math.nan
    judge(frame, families.values())
    frame.loc[unequal, "verdict"] = NOT_COMPARABLE
    frame["mde"] = minimum_detectable_effect(frame["stderr"].to_numpy(np.float64), frame["dof"].to_numpy(np.float64))
    needed = [
        required_sizes(effect.estimate, margin) if effect.task == ALL and word == UNDECIDED else (None, None)
        for effect, word in zip(effects, frame["verdict"], strict=True)
    ]
    frame["seeds_needed"], frame["items_needed"] = zip(*needed, strict=True) if needed else ((), ())
    return frame


def _estimates(answers: Answers, contrasts: Sequence[Contrast], per_task: bool) -> list[_Effect]:
    """Estimate every contrast over all items, and then task by task."""
    effects = []
    for task in (ALL, *(dict.fromkeys(answers.tasks.tolist()) if per_task else ())):
        mask = np.ones(len(answers.clips), dtype=np.bool_) if task == ALL else answers.tasks == task
        correct_only = seed_variance_of(answers, mask)
        all_conditions = seed_variance_of(answers, mask, incorrect=True)
        for contrast in contrasts:
            noise = all_conditions if any(map(answers.is_incorrect, contrast.weights)) else correct_only
            effects.append(_Effect(contrast, task, _estimated(answers, contrast, mask, noise)))
    return effects


def _same_budget(answers: Answers, contrast: Contrast) -> bool:
    """Whether all conditions of a contrast used the same budget."""
    used = [answers.budgets[condition] for condition in contrast.weights if condition in answers.budgets]
    return not used or max(used) - min(used) <= BUDGET_TOLERANCE * max(used)


def seed_variance_of(answers: Answers, mask: NDArray[np.bool_], incorrect: bool = False) -> SeedVariance | None:
    """Pool the variance between seeds over the conditions; conditions that are one run count once.

    Args:
        answers: of the finished cells.
        mask: (items,): which items.
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
    seeds = list(dict.fromkeys(seed for _, seed in answers.correct))
    accuracies = np.full((len(numbers), len(seeds)), np.nan)
    for (condition, seed), values in answers.correct.items():
        if condition in numbers:
            accuracies[numbers[condition], seeds.index(seed)] = values[mask].mean()
    return pooled_seed_variance(accuracies)


def _estimated(answers: Answers, contrast: Contrast, mask: NDArray[np.bool_], noise: SeedVariance | None) -> Estimate:
    """Estimate a contrast on the items of a mask, over the seeds that have finished all its conditions."""
    weights = contrast.weights
    seeds = [
        seed
        for seed in answers.seeds_of(next(iter(weights)))
        if all((condition, seed) in answers.correct for condition in weights)
    ]
    columns = [sum(weight * answers.correct[condition, seed][mask] for condition, weight in weights.items()) for seed in seeds]
    difference = np.stack(columns, axis=1) if columns else np.zeros((int(mask.sum()), 0))  # (items, seeds)
    # conditions that are one run have their seed's part in common; where those cancel, what rounding did to them is left
    runs: dict[Condition, float] = {}
    for condition, weight in weights.items():
        run = answers.run_of(condition)
        runs[run] = runs.get(run, 0.0) + weight
    squares = max(sum(weight**2 for weight in each.values()) for each in (weights, runs))
    return estimate(difference, answers.clips[mask], noise, squares)


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
        "incorrect": contrast.axis in CORRECT_LEVELS and contrast.level != CORRECT_LEVELS[contrast.axis],
    }
