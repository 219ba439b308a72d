"""Measures the verdicts of `report A B` on two simulated folders whose conditions do not differ."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from interval_rules import NEW, OLD, Rule, estimated, own_variance, parts, pooled_variance, stacked
from numpy.typing import NDArray
from simulated_reports import MARGIN, Design, answers_of, draw

from qtablate.report.answers import Answers
from qtablate.report.compare import _paired_difference, _unpaired_difference
from qtablate.report.verdicts import BETTER, WORSE, verdict
from qtablate.statistics.estimate import Estimate, Floats, holm

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Pair:
    """What is compared: two folders of one design, with the same seeds and items or with others."""

    design: Design
    """Its `shared_sd` is that of a seed in one folder, over all conditions."""
    paired: bool


def _pairs() -> Iterator[Pair]:
    """Yield designs with conditions whose seeds vary alike or not, and with little or much that a seed does to a folder."""
    for name, row in (("equal 1", (0.01, 0.01)), ("3.5 and .3 by accumulation", (0.035, 0.003))):
        for shared in (0.0, 0.02):
            for paired in (True, False):
                yield Pair(Design(name, (row,) * 3, shared_sd=shared, groups=(0,) * 6), paired)


PAIRS = tuple(_pairs())


def compared(pair: Pair, number: int, runs: int) -> list[Row]:
    """Measure the coverage and the family error of the comparison of two folders, by the former rule and by the present one."""
    claims: dict[str, list[bool]] = {OLD: [], NEW: []}
    covered: dict[str, list[float]] = {OLD: [], NEW: []}
    widths: dict[str, list[float]] = {OLD: [], NEW: []}
    for run in range(runs):
        random = np.random.default_rng((number, run))
        for rule, estimates in (_paired if pair.paired else _unpaired)(pair.design, random).items():
            claims[rule].append(_claims_any(estimates))
            intervals = [one.interval() for one in estimates]
            covered[rule].append(float(np.mean([low <= 0 <= high for low, high in intervals])))
            widths[rule] += [high - low for low, high in intervals]
    return [
        {
            "design": pair.design.name,
            "shared_sd": pair.design.shared_sd,
            "paired": pair.paired,
            "rule": rule,
            "runs": runs,
            "coverage_mean": np.mean(covered[rule]),
            "width": np.median(widths[rule]),
            "family_error": np.mean(claims[rule]),
        }
        for rule in (OLD, NEW)
    ]


def _claims_any(estimates: Sequence[Estimate]) -> bool:
    """Whether any condition is better or worse, with the adjustment of report/compare.py."""
    p, p_tost = holm([one.p for one in estimates]), holm([one.p_tost(MARGIN) for one in estimates])
    return any(verdict(one.value, *of_one) in (BETTER, WORSE) for one, *of_one in zip(estimates, p, p_tost, strict=True))


def _folder(design: Design, correct: Floats, clips: NDArray[np.int64]) -> Answers:
    return answers_of(design, correct, clips, np.ones(correct.shape[:2], np.bool_))


def _paired(design: Design, random: np.random.Generator) -> dict[str, list[Estimate]]:
    """Compare two folders with the same seeds and items; what a seed does to all conditions of a folder is the folder's own."""
    both = replace(design, seed_sds=tuple(row * 2 for row in design.seed_sds), groups=(0, 0, 1, 1) * len(design.seed_sds))
    correct, clips = draw(both, random)
    columns = np.arange(len(both.levels)) % 4
    folders = [_folder(design, correct[half], clips) for half in (columns < 2, columns >= 2)]
    identity = np.eye(len(both.levels))
    weights = identity[columns >= 2] - identity[columns < 2]
    of = stacked([parts(correct, clips, np.ones(correct.shape[:2], np.bool_), weights)])
    variance, dof = estimated(Rule(own_variance, former=True), of)
    seeds = list(range(1, design.seeds + 1))
    return {
        OLD: [_estimate(design, *of_one) for of_one in zip(of.value[0], variance[0], dof[0], strict=True)],
        NEW: [_paired_difference(folders, condition, seeds) for condition in design.conditions],
    }


def _unpaired(design: Design, random: np.random.Generator) -> dict[str, list[Estimate]]:
    """Compare two folders with other seeds and other items. The former rule pooled the seeds' part over each folder."""
    folders, arms = [], []
    for _ in range(2):
        correct, clips = draw(design, random)
        folders.append(_folder(design, correct, clips))
        arms.append(stacked([parts(correct, clips, np.ones(correct.shape[:2], np.bool_), np.eye(len(correct)))]))
    (first, dof), (second, other_dof) = (estimated(Rule(pooled_variance, former=True), arm) for arm in arms)
    welch = (first + second) ** 2 / (first**2 / dof + second**2 / other_dof)
    value = arms[1].value - arms[0].value
    return {
        OLD: [_estimate(design, *of_one) for of_one in zip(value[0], (first + second)[0], welch[0], strict=True)],
        NEW: [_unpaired_difference(folders, condition) for condition in design.conditions],
    }


def _estimate(design: Design, value: float, variance: float, dof: float) -> Estimate:
    return Estimate(float(value), float(variance) ** 0.5, float(dof), design.seeds, design.items, 0, None)
