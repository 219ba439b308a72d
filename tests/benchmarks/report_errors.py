"""Measures of what reports of simulated grids claim: coverage of intervals, false claims, selection."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from interval_rules import NEW, RULES, Found, Parts, apply, parts, stacked
from numpy.typing import NDArray
from simulated_reports import MARGIN, Design, answers_of, contrasts_of, draw, finished, weights_of

from qtablate.report.answers import ACCURACY, Answers
from qtablate.report.contrasts import Contrast
from qtablate.report.effects import contrast_frame
from qtablate.report.families import ALL, Tests
from qtablate.report.verdicts import BETTER, EQUIVALENT, WORSE
from qtablate.statistics.estimate import Floats

RESTLESS, QUIET = 1.2, 0.8
"""Ratios of a contrast's true variance between seeds to the one that the pooled variance foretells: above, restless."""
WITHOUT, AT_MARGIN, SELECTION = range(3)
"""What grids of one design are for: each has random numbers of its own."""

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Grid:
    """The answers of one simulated grid."""

    correct: Floats
    """(conditions, seeds, items)."""
    clips: NDArray[np.int64]
    done: NDArray[np.bool_]
    """(conditions, seeds) which cells have finished."""
    answers: Answers


def grids(design: Design, number: int, purpose: int, runs: int) -> Iterator[Grid]:
    """Draw the grids of a design, each with a generator of its own."""
    for run in range(runs):
        random = np.random.default_rng((number, purpose, run))
        correct, clips = draw(design, random)
        done = finished(design, random)
        yield Grid(correct, clips, done, answers_of(design, correct, clips, done))


def frame_of(answers: Answers, wanted: Sequence[Contrast]) -> pd.DataFrame:
    """Return the report's contrasts of the accuracy over all items."""
    return contrast_frame(answers, wanted, MARGIN, per_task=False, outcomes=(ACCURACY,), power=False)


def found_by(design: Design, number: int, purpose: int, runs: int) -> tuple[dict[str, Found], Parts]:
    """Return what every rule says of the contrasts of a design's grids, the report's own first."""
    wanted = contrasts_of(design)
    weights = weights_of(design, wanted)
    of_grids, frames = [], []
    for grid in grids(design, number, purpose, runs):
        of_grids.append(parts(grid.correct, grid.clips, grid.done, weights))
        frames.append(frame_of(grid.answers, wanted))
    of = stacked(of_grids)
    columns = ("difference", "ci_low", "ci_high")
    verdicts = np.array([frame["verdict"] for frame in frames])
    claims = (verdicts == BETTER).astype(np.int64) - (verdicts == WORSE)
    new = Found(*(np.array([frame[name] for frame in frames], np.float64) for name in columns), claims, verdicts == EQUIVALENT)
    return {NEW: new} | {name: apply(rule, of, wanted, MARGIN) for name, rule in RULES.items()}, of


def primary_of(wanted: Sequence[Contrast]) -> NDArray[np.bool_]:
    """Return which contrasts are primary."""
    return np.array(Tests.of([("", ALL, contrast, tuple(contrast.weights.items())) for contrast in wanted]).primary)


def false_claims(found: Found, truth: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which verdicts are false, (grids, contrasts): better or worse; and equivalent.

    Args:
        found: of a rule.
        truth: (contrasts,) true differences.
    """
    signs = np.sign(np.round(truth, 9))
    return (found.claims != 0) & (found.claims != signs), found.equivalent & (np.abs(truth) > MARGIN - 1e-9)


def seed_variance_ratio(design: Design, weights: Floats) -> Floats:
    """Return the true variance between seeds of each contrast, relative to the one that the pooled variance foretells."""
    covariance = design.seed_covariance
    count = len(covariance)
    pooled = (np.trace(covariance) - covariance.sum() / count) / (count - 1)
    return np.einsum("ki,ij,kj->k", weights, covariance, weights) / (pooled * np.square(weights).sum(axis=1))


def label_of(contrast: Contrast) -> str:
    """Format a contrast in a few words."""
    fixed = ", ".join(f"{axis.split('_')[0]} {'+'.join(map(str, levels))}" for axis, levels in contrast.fixed_levels)
    other = f" x {contrast.other_axis.split('_')[0]} {contrast.other_level}" if contrast.other_axis else ""
    return f"{contrast.kind} {contrast.axis.split('_')[0]} {contrast.level}{other}" + (f" at {fixed}" if fixed else "")


def coverage_and_errors(design: Design, number: int, runs: int) -> list[Row]:
    """Measure intervals and false claims, a row per rule."""
    wanted = contrasts_of(design)
    weights = weights_of(design, wanted)
    primary, ratio = primary_of(wanted), seed_variance_ratio(design, weights)
    plain, _ = found_by(design, number, WITHOUT, runs)
    margin_design = design.at_the_margin()
    at_margin, _ = found_by(margin_design, number, AT_MARGIN, runs)
    rows: list[Row] = []
    for rule, found in plain.items():
        truth = weights @ design.true_effects
        covered = ((found.low <= truth) & (truth <= found.high)).mean(axis=0)
        false, _ = false_claims(found, truth)
        at_truth = weights @ margin_design.true_effects
        false_at, equivalent_at = false_claims(at_margin[rule], at_truth)
        rows.append(
            {
                "design": design.name,
                "seeds": design.seeds,
                "rule": rule,
                "runs": runs,
                "contrasts": len(wanted),
                "coverage_lowest": covered.min(),
                "lowest_of": label_of(wanted[int(covered.argmin())]),
                "coverage_mean": covered.mean(),
                "coverage_restless": mean_of(covered, ratio > RESTLESS),
                "coverage_quiet": mean_of(covered, ratio < QUIET),
                "width": float(np.median(found.high - found.low)),
                "family_primary": false[:, primary].any(axis=1).mean(),
                "family_any": false.any(axis=1).mean(),
                "margin_equivalent_primary": equivalent_at[:, primary].any(axis=1).mean(),
                "margin_equivalent": equivalent_at.any(axis=1).mean(),
                "margin_any_false": (false_at | equivalent_at).any(axis=1).mean(),
            }
        )
    return rows


def mean_of(values: Floats, mask: NDArray[np.bool_]) -> float:
    """Return the mean of some values; nan where there are none."""
    return float(values[mask].mean()) if mask.any() else math.nan


def selection(design: Design, number: int, runs: int) -> Row:
    """Measure by how much the accuracy of the best-looking condition is too high, and how often it is the true best."""
    truth = design.accuracy + design.true_effects
    excess, right = [], []
    for run in range(runs):
        correct, _ = draw(design, np.random.default_rng((number, SELECTION, run)))
        accuracies = correct.mean(axis=(1, 2))
        best = int(accuracies.argmax())
        excess.append(accuracies[best] - truth[best])
        right.append(truth[best] == truth.max())
    return {
        "design": design.name,
        "seeds": design.seeds,
        "runs": runs,
        "excess": np.mean(excess),
        "excess_se": np.std(excess, ddof=1) / runs**0.5,
        "is_true_best": np.mean(right),
    }


def with_one_seed(design: Design) -> Design:
    """Return a design with a single seed."""
    return replace(design, seeds=1)
