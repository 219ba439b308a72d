"""What a planned grid can detect: the smallest difference of each kind of primary contrast, and what would detect a margin.

The contrasts are those that the report will make, from the planned conditions without any answers, at the level that Holm's
adjustment leaves to each while none is decided. The power is that of the report's own test (statistics/power.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qtablate.grid import reference_batch
from qtablate.report.answers import ACCURACY, Answers, axes_of
from qtablate.report.contrasts import Contrast, baselines, contrasts
from qtablate.report.effects import pooled_over, squared_weights, weights_by
from qtablate.report.families import ALL, Tests, Weights
from qtablate.statistics.distributions import chi2_quantile
from qtablate.statistics.estimate import Estimate, VarianceComponents
from qtablate.statistics.power import MOST_ITEMS, RANGE, designs_of, detectable_effect, required_sizes
from qtablate.sweep.deviations import Deviations
from qtablate.sweep.plan import SweepPlan

_FEWEST_CLIPS = 4
"""Fewest clips that a smaller design than the planned one may have."""


@dataclass(frozen=True, slots=True)
class Size:
    """Numbers that a design can change."""

    seeds: int
    items: int
    clips: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Primary contrasts of one kind: they differ in nothing but the level, and so detect the same difference."""

    contrasts: tuple[Contrast, ...]
    squares: float
    """Sum of the squared weights with which runs enter a contrast: 2 for one minus another, 2 / k for means over k levels."""
    level: float
    """Of the test: 0.05 / the number of primary contrasts."""
    dof_per_seed: int
    """Degrees of freedom of the variance between seeds that is pooled over the conditions, for each seed after the first."""


@dataclass(frozen=True, slots=True)
class Detectable:
    """What a comparison detects, and what detects the margin. Differences are shares; None where nothing in reach does."""

    effect: float
    """The smallest difference that is found in 80 % of all repetitions, at the planned size."""
    effect_low: float
    effect_high: float
    """Range of RANGE confidence, since the variance between seeds is known only roughly; nan where it counts as known."""
    seeds: int | None
    """At the planned items."""
    seeds_low: int | None
    seeds_high: int | None
    items: int | None
    """In all, at the planned seeds; None with one seed, too: no number of items tells a seed's part."""


def planned_answers(plan: SweepPlan) -> Answers:
    """Return the planned conditions as the report will see them, with one seed and no answers."""
    names = axes_of(plan.config.grid.batch_size_is)
    conditions = [tuple(getattr(condition, axis) for axis in names) for condition in plan.conditions()]
    nothing = np.zeros(0)
    empty = np.zeros(0, np.str_)
    cells = {(condition, 0): nothing for condition in conditions}
    return Answers(names, cells, np.zeros(0, np.int64), empty, empty, reference_batch(plan.config.grid))


def primary_comparisons(answers: Answers) -> list[Comparison]:
    """Return the primary contrasts of these conditions by kind, in the order of the report.

    Contrasts whose runs are the same but for rounding, such as two splits of one batch, are left out.
    """
    rows = [
        (ACCURACY, ALL, contrast, _tested_weights(answers, contrast)) for contrast in contrasts(answers, baselines(answers, {}))
    ]
    tests = Tests.of(rows)
    levels = tests.levels(pd.Series(np.ones(len(rows))))  # while nothing is decided
    dof = {incorrect: _dof_per_seed(answers, incorrect) for incorrect in (False, True)}
    groups: dict[tuple[object, ...], list[tuple[Contrast, float, float, int]]] = {}
    for (_, _, contrast, weights), primary, level in zip(rows, tests.primary, levels, strict=True):
        if primary and weights:
            squares = squared_weights(answers, contrast)
            pooled = dof[any(map(answers.is_incorrect, contrast.weights))]
            name = (contrast.axis, contrast.kind, contrast.fixed_levels, round(squares, 9), pooled)
            groups.setdefault(name, []).append((contrast, squares, float(level), pooled))
    return [Comparison(tuple(one[0] for one in group), *group[0][1:]) for group in groups.values()]


def _tested_weights(answers: Answers, contrast: Contrast) -> Weights:
    """Return the weights of a contrast; none where it compares a run with itself."""
    runs = weights_by(contrast, answers.run_of)
    return tuple(contrast.weights.items()) if any(abs(weight) > 1e-9 for weight in runs.values()) else ()


def _dof_per_seed(answers: Answers, incorrect: bool) -> int:
    """Return the degrees of freedom that a second seed gives the report's pooled variance."""
    pooled = pooled_over(answers, {(one, seed): np.zeros(1) for one in answers.conditions for seed in (0, 1)}, incorrect)
    return pooled.dof if pooled else 0


def detectable(comparisons: Sequence[Comparison], deviations: Deviations, size: Size, margin: float) -> list[Detectable]:
    """Return what each comparison detects at a size of two clips or more, and the sizes at which it would detect the margin."""
    levels = np.array([one.level for one in comparisons])

    def effects(varied: Deviations, size: Size) -> list[float]:
        designs = designs_of([planned_estimate(one, varied, size) for one in comparisons])
        return [float(effect) for effect in detectable_effect(designs, levels)]

    low, high = (effects(deviations.scaled(factor, size.items), size) for factor in variance_range(deviations.dof))
    effect = effects(deviations, size)
    several = Size(max(size.seeds, 2), size.items, size.clips)
    seeds = required_sizes([planned_estimate(one, deviations, several) for one in comparisons], margin, levels)
    out = []
    for number, one in enumerate(comparisons):
        needed = seeds[number]
        items = _items_needed(one, deviations, size, margin, effect[number] <= margin)
        out.append(
            Detectable(effect[number], low[number], high[number], needed.seeds, needed.seeds_low, needed.seeds_high, items)
        )
    return out


def variance_range(dof: float) -> tuple[float, float]:
    """Return the factors from an estimated variance to the ends of its range; nan where it counts as known."""
    tail = (1 - RANGE) / 2
    return dof / float(chi2_quantile(1 - tail, dof)), dof / float(chi2_quantile(tail, dof))


def planned_estimate(comparison: Comparison, deviations: Deviations, size: Size) -> Estimate:
    """Return what a contrast will be estimated with, its value aside.

    V(seeds) and V(clips x seeds) of a mean over levels fall with the squared weights. V(clips) does not: what a level does to
    the questions of a clip, it does at all levels that are averaged. With one seed, a test knows the items' part alone.
    """
    share = comparison.squares / 2
    clip, interaction = deviations.clip / size.items, deviations.interaction * share / size.items
    if size.seeds == 1:
        return Estimate(math.nan, math.sqrt(clip + interaction), size.clips - 1, 1, size.items, size.clips, None)
    return Estimate(
        math.nan,
        math.nan,
        math.nan,
        size.seeds,
        size.items,
        size.clips,
        VarianceComponents(deviations.seed * share, clip, interaction),
        seed_dof=deviations.dof,
        clip_dof=size.clips - 1,
        pooled_dof=comparison.dof_per_seed * (size.seeds - 1),
    )


def _items_needed(comparison: Comparison, deviations: Deviations, size: Size, margin: float, is_enough: bool) -> int | None:
    """Return the number of items, up to MOST_ITEMS times the planned ones, that detects the margin at the planned seeds."""
    if size.seeds == 1:
        return None
    # required_sizes looks for more items than it is given: where the planned ones are enough, it starts from few
    fewer = max(min(MOST_ITEMS, size.clips // _FEWEST_CLIPS), 1) if is_enough else 1
    start = Size(size.seeds, -(-size.items // fewer), -(-size.clips // fewer))
    [needed] = required_sizes([planned_estimate(comparison, deviations, start)], margin, comparison.level)
    return min(needed.items, size.items) if needed.items and is_enough else needed.items
