"""Measures power and required seeds: is what the report calls detectable found, and how far do its numbers of seeds scatter."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from report_errors import WITHOUT, Grid, Row, frame_of, grids, label_of, primary_of, seed_variance_ratio
from simulated_reports import MARGIN, Design, contrasts_of, weights_of

from qtablate.report.contrasts import Contrast
from qtablate.report.effects import pooled_over
from qtablate.report.families import ALL, Tests
from qtablate.report.verdicts import UNDECIDED
from qtablate.statistics.estimate import ALPHA, Estimate, Floats, VarianceComponents, estimate
from qtablate.statistics.power import designs_of, detectable_effect, required_sizes

FOR_POWER = 200
"""Effect-free grids that say what is detectable."""
CALLED_DETECTABLE, DETECTABLE_ALONE = 10, 11
"""What grids are for, beside report_errors.py's."""


def power(design: Design, number: int, runs: int) -> Row:
    """Measure how often the report finds a difference of the size that it calls detectable, for one primary contrast.

    The contrast is that of the largest number of tokens. Other primary contrasts have no effect.
    """
    wanted = [
        contrast
        for contrast, is_primary in zip(contrasts_of(design), primary_of(contrasts_of(design)), strict=True)
        if is_primary
    ]
    highest = max(tokens for tokens, _ in design.levels)
    place = next(number for number, contrast in enumerate(wanted) if contrast.level == highest and "token" in contrast.axis)
    tested = wanted[place]
    nothing = design.with_effects(np.zeros(len(design.levels)))
    tests = Tests.of([("", ALL, contrast, tuple(contrast.weights.items())) for contrast in wanted])
    estimates, levels, undecided = [], [], []
    for grid in grids(nothing, number, WITHOUT, FOR_POWER):
        estimates.append(estimate_of(grid, design, tested))
        frame = frame_of(grid.answers, wanted)
        undecided.append(frame["verdict"].iloc[place] == UNDECIDED)
        levels.append(float(tests.levels(frame["p"])[place]))
    mde = float(np.median(detectable_effect(designs_of(estimates), np.array(levels))))
    mde_alone = float(np.median(detectable_effect(designs_of(estimates), ALPHA)))
    has_effect = np.array([tokens == highest for tokens, _ in design.levels], np.float64)

    def found(effect: float, purpose: int, tested_together: Sequence[Contrast], column: str) -> float:
        """Return the share of grids with an effect that find it; nan where accuracies leave no room for the effect."""
        if not math.isfinite(effect):
            return math.nan
        with_effect = nothing.with_effects(has_effect * effect)
        row = list(tested_together).index(tested)
        try:
            drawn = grids(with_effect, number, purpose, runs)
            return float(np.mean([frame_of(grid.answers, tested_together)[column].iloc[row] < ALPHA for grid in drawn]))
        except ValueError:
            return math.nan

    return {
        "design": design.name,
        "seeds": design.seeds,
        "runs": runs,
        "contrast": label_of(tested),
        "mde": mde,
        "level": float(np.median(levels)),
        "power": found(mde, CALLED_DETECTABLE, wanted, "p_holm"),
        "mde_alone": mde_alone,
        "power_alone": found(mde_alone, DETECTABLE_ALONE, [tested], "p"),
        **needed_seeds(design, tested, estimates, np.array(undecided), np.array(levels)),
    }


def estimate_of(grid: Grid, design: Design, contrast: Contrast) -> Estimate:
    """Estimate a contrast as the report does."""
    weights = weights_of(design, [contrast])[0]
    seeds = grid.done[weights != 0].all(axis=0)
    difference = np.tensordot(weights, grid.correct, 1)[seeds].T
    return estimate(difference, grid.clips, pooled_over(grid.answers, grid.answers.correct), float(weights @ weights))


def needed_seeds(
    design: Design, tested: Contrast, estimates: Sequence[Estimate], undecided: NDArray[np.bool_], levels: Floats
) -> Row:
    """Return how far the numbers of seeds that reports ask for scatter about the one that follows from the true variances.

    That is of the contrast's own true variance between seeds, and of the larger of it and the one that the pooled variance
    foretells, as the report takes it.

    Args:
        design: what is simulated.
        tested: a contrast.
        estimates: of it, one a grid without effects.
        undecided: in which grids it is undecided, so that the report gives a number.
        levels: at which it is tested in each.
    """
    weights = weights_of(design, [tested])[0]
    parts = [one.components for one in estimates if one.components]
    clip, interaction = (float(np.mean([getattr(one, name) for one in parts])) for name in ("clip", "interaction"))
    own = float(weights @ design.seed_covariance @ weights)
    larger = own / min(1.0, float(seed_variance_ratio(design, weights[None])[0]))
    middle = sorted(estimates, key=lambda one: one.clip_dof)[len(estimates) // 2]
    level = float(np.median(levels))
    by_own, by_rule = (
        number_of(
            required_sizes([replace(middle, components=VarianceComponents(seed, clip, interaction))], MARGIN, level)[0].seeds
        )
        for seed in (own, larger)
    )
    asked = [one for one, is_undecided in zip(estimates, undecided, strict=True) if is_undecided]
    needed = required_sizes(asked, MARGIN, levels[undecided])
    said = [number_of(each.seeds) for each in needed]
    ranges = [(number_of(each.seeds_low), number_of(each.seeds_high)) for each in needed]
    quantiles = np.quantile(said, [0.1, 0.5, 0.9], method="nearest") if said else [math.nan] * 3
    return {
        "undecided": len(said) / FOR_POWER,
        "needed_own": by_own,
        "needed_larger": by_rule,
        **dict(zip(("needed_10", "needed_50", "needed_90"), map(float, quantiles), strict=True)),
        "range_has_own": _share_that_contain(ranges, by_own),
        "range_has_larger": _share_that_contain(ranges, by_rule),
    }


def _share_that_contain(ranges: Sequence[tuple[float, float]], number: float) -> float:
    return float(np.mean([low <= number <= high for low, high in ranges])) if ranges else math.nan


def number_of(seeds: int | None) -> float:
    """Return a number of seeds; infinite where none that is thought of is enough."""
    return math.inf if seeds is None else float(seeds)
