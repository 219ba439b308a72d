"""The gate of a planned comparison: one level of an axis beats another."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qtablate import axes
from qtablate.axes import Axis, Level
from qtablate.errors import ConfigError
from qtablate.report.answers import ACCURACY, Answers
from qtablate.report.contrasts import MAIN, SIMPLE, Contrast, baselines, contrasts
from qtablate.report.effects import contrast_frame, estimate_accuracies
from qtablate.report.gates.judgement import ONE_CLIP, ONE_SEED, Judgement, not_judged
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import NO_SEED, fixed_levels_label, interval_text
from qtablate.report.tables.cells import plural
from qtablate.report.verdicts import IDENTICAL, ITEMS_ONLY, NOT_COMPARABLE
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.estimate import ALPHA, POWER, Estimate, holm
from qtablate.statistics.power import designs_of, detectable_effect
from qtablate.table import is_uninformative, p_text, points


@dataclass(frozen=True, slots=True)
class Better:
    """What `--better tokens=32,tokens=0` asks for: one level of an axis beats another."""

    axis: Axis
    level: Level
    baseline: Level

    def __str__(self) -> str:
        return f"{self.axis.label} {self.axis.show(self.level)} beats {self.axis.show(self.baseline)}"


def parse_better(text: str) -> Better:
    """Parse `tokens=32,tokens=0`. Raises ConfigError."""
    parts = [tuple(axes.parse_levels("--better", part).items()) for part in text.split(",")]
    if len(parts) != 2 or not all(parts) or parts[0][0][0] != parts[1][0][0]:
        raise ConfigError(f"--better: expected two levels of one axis such as tokens=32,tokens=0, got '{text}'")
    [(option, level)], [(_, baseline)] = parts
    axis = axes.BY_OPTION.get(option)
    if axis is None:
        raise ConfigError(f"--better: unknown axis '{option}'; known: {', '.join(axes.BY_OPTION)}")
    try:
        better = Better(axis, axis.parse_level(level), axis.parse_level(baseline))
    except ValueError as error:
        raise ConfigError(f"--better {text}: {str(error).partition('; give')[0]}") from None  # no comma list of levels here
    if better.level == better.baseline:
        raise ConfigError(f"--better: expected two levels, got {level} twice in '{text}'; name the one to beat second")
    return better


@dataclass(frozen=True, slots=True)
class _Compared:
    row: Row
    """Of the report's frame of contrasts."""
    estimate: Estimate


def judge_better(answers: Answers, pairs: Sequence[Better]) -> list[Judgement]:
    """Judge planned comparisons: one-sided tests at half of ALPHA, which is the two-sided ones at ALPHA with the right sign.

    Holm's adjustment is over these comparisons alone, not over the report's.
    """
    compared = [_compared(answers, pair) for pair in pairs]
    p = holm([one.estimate.p_above(0) if isinstance(one, _Compared) else math.nan for one in compared])
    count = sum(isinstance(one, _Compared) for one in compared)
    judged = []
    for one, adjusted in zip(compared, p, strict=True):
        if isinstance(one, str):
            judged.append(not_judged(one))
            continue
        row = one.row
        where = "; ".join(filter(None, (fixed_levels_label(row), plural(row["seeds"], "seed"))))
        found = f"{points(row['difference'])} points ({interval_text(row)}; {where}), p {p_text(row['p'])}"
        found += f"; one-sided, adjusted over {count} gates {p_text(adjusted)}" if count > 1 else ""
        mde = float(detectable_effect(designs_of([one.estimate]), ALPHA * one.estimate.error_share / count)[0])
        rate = f"passes by chance in at most {100 * ALPHA / 2:g} % of runs where the two are equal"
        rate += f", any of {count} such gates together; " if count > 1 else "; "
        if is_uninformative(mde):
            rate += "no true difference is found reliably"
        else:
            rate += f"a true difference of {points(mde, sign=False)} points is found in {100 * POWER:g} % of runs"
        judged.append(Judgement(found, adjusted < ALPHA / 2, rate))
    return judged


def _compared(answers: Answers, pair: Better) -> _Compared | str:
    """Estimate the report's contrast of two levels; where that is not possible, say why."""
    axis = answers.axes[axes.AXES.index(pair.axis)]
    place = answers.axes.index(axis)
    there = {condition[place] for condition in answers.conditions if axis not in answers.inactive(condition)}
    missing = [level for level in (pair.level, pair.baseline) if level not in there]
    if missing:
        return f"no finished cell has {' or '.join(f'{pair.axis.option}={pair.axis.show(level)}' for level in missing)}"
    found = [
        contrast
        for contrast in contrasts(answers, {**baselines(answers, {}), axis: pair.baseline})
        if contrast.axis == axis and contrast.level == pair.level and contrast.kind in (MAIN, SIMPLE)
    ]
    chosen: Contrast | None = next((one for one in found if one.kind == MAIN), found[0] if found else None)
    if chosen is None:
        return "no two finished conditions differ in this alone"
    [row] = records_of(contrast_frame(answers, [chosen], 0.0, per_task=False, outcomes=(ACCURACY,), power=False))
    if pd.isna(row["difference"]):
        return NO_SEED
    if row["n_clusters"] < MIN_CLIPS:
        return f"the items are of {plural(int(row['n_clusters']), 'clip')}, fewer than {MIN_CLIPS}"
    if row["verdict"] == NOT_COMPARABLE:
        return "the budgets of the two differ by more than 1 %"
    if row["verdict"] == IDENTICAL:
        return "the two are the same run, with equal losses at every step"
    if row["uncertainty"] != ITEMS_ONLY and not pd.isna(row["p"]):
        return _Compared(row, estimate_accuracies(answers, [chosen])[0])
    return ONE_CLIP if pd.isna(row["p"]) else ONE_SEED
