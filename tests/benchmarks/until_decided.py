"""Measures `sweep --until-decided` on simulated grids: false claims, coverage, power, seeds; beside all seeds and naive looks.

    python tests/benchmarks/until_decided.py [--runs 1000] [--out results/statistics] [--processes 2]

Answers are drawn item by item (simulated_reports.py); the rule and the report that follows are the package's own code. The
naive rule is the same code with the whole error at every look: stop as soon as the report's p is below .05.
"""

import argparse
import dataclasses
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
from interval_rules import Found
from numpy.typing import NDArray
from report_errors import Row, false_claims, frame_of, primary_of
from simulated_reports import MARGIN, Design, answers_of, contrasts_of, draw, weights_of

from qtablate.report import effects
from qtablate.report.contrasts import baselines
from qtablate.report.until_decided import answers_until, seeds_enough
from qtablate.report.verdicts import BETTER, EQUIVALENT, WORSE
from qtablate.statistics.distributions import normal_tail, t_tail
from qtablate.statistics.estimate import ALPHA
from qtablate.statistics.sequential import error_share, looks

FIXED, NAIVE, RULE = "all seeds", "naive", "--until-decided"
Mask = NDArray[np.bool_]
NUMBER = 7
"""Of these studies' random numbers."""


def design(name: str, sds: Sequence[Sequence[float]], seeds: int, effects_in_points: Sequence[float] = ()) -> Design:
    """Return a design of 1,000 items in clips of 1 to 6, with standard deviations and effects in points."""
    shares = tuple(tuple(value / 100 for value in row) for row in sds)
    plain = Design(name, shares, seeds, items=1000, largest_clip=6)
    return plain.with_effects(np.array(effects_in_points) / 100) if effects_in_points else plain


def column(*sds: float) -> list[list[float]]:
    """Return conditions that differ in extra tokens alone."""
    return [[sd] for sd in sds]


QUIET, EVEN, MIXED = column(0.3, 0.3, 0.3, 0.3), column(1, 1, 1, 1), column(0.3, 3.5, 0.3, 1)
ONE_RESTLESS = [[0.3, 0.3], [3.5, 0.3], [0.3, 0.3]]
DESIGNS = (
    design("2 conditions, sd 1", column(1, 1), 5),
    design("4 conditions, sd 1", EVEN, 8),
    design("4 conditions, sd .3", QUIET, 8),
    design("4 conditions, sd .3, 3.5, .3, 1", MIXED, 10),
    design("6 conditions, sd 1", column(*[1] * 6), 10),
    design("3 x 2 conditions, one sd 3.5, others .3", ONE_RESTLESS, 8),
    design("2 conditions, sd 1, effect 3", column(1, 1), 5, (0, 3)),
    design("2 conditions, sd 1, effect 6", column(1, 1), 10, (0, 6)),
    design("4 conditions, sd 1, effects 2, 4, 6", EVEN, 10, (0, 2, 4, 6)),
    design("4 conditions, sd .3, effects 0, 2, 4", QUIET, 8, (0, 0, 2, 4)),
    design("4 conditions, sd .3, effects 2, -2, 2 (the margin)", QUIET, 8, (0, 2, -2, 2)),
    design("4 conditions, sd .3, 3.5, .3, 1, effects 1, 3, 6", MIXED, 10, (0, 1, 3, 6)),
    design("6 conditions, sd 1, effects 1 to 5", column(*[1] * 6), 8, (0, 1, 2, 3, 4, 5)),
    design("3 x 2 conditions, sd 1, effects 4 and 6 of tokens, 0 of accumulation", [[1, 1]] * 3, 8, (0, 0, 4, 4, 6, 6)),
    design("3 x 2 conditions, one sd 3.5, others .3, effects 4 and 6 of tokens, 3", ONE_RESTLESS, 8, (0, 3, 4, 7, 6, 9)),
)


def whole_error(seeds: int, planned: int) -> float:
    """Leave every look the whole error."""
    return 1.0


def rows_of(number: int, runs: int) -> list[Row]:
    """Measure one design: a row for all seeds, the naive rule and the package's."""
    of = DESIGNS[number]
    wanted = contrasts_of(of)
    primary, truth = primary_of(wanted), weights_of(of, wanted) @ of.true_effects
    seeds = tuple(range(1, of.seeds + 1))
    frames: dict[str, list[pd.DataFrame]] = {FIXED: [], NAIVE: [], RULE: []}
    used: dict[str, list[float]] = {FIXED: [], NAIVE: [], RULE: []}
    for run in range(runs):
        correct, clips = draw(of, np.random.default_rng((NUMBER, number, run)))
        everything = answers_of(of, correct, clips, np.ones(correct.shape[:2], np.bool_))
        base = baselines(everything, {})
        for rule in frames:
            answers, enough = everything, {}
            with mock.patch.object(effects, "error_share", whole_error if rule == NAIVE else effects.error_share):
                if rule != FIXED:
                    planned = dataclasses.replace(everything, planned_seeds=seeds)
                    enough = seeds_enough(planned, base, MARGIN, of.seeds)
                    answers = answers_until(planned, enough, of.seeds)
                all_are_run = rule == NAIVE and not enough  # with the whole error: the same report as of all seeds
                frames[rule].append(frames[FIXED][-1] if all_are_run else frame_of(answers, wanted))
            used[rule].append(float(np.mean([enough.get(condition, of.seeds) for condition in of.conditions])))
    return [measured(of, rule, frames[rule], used[rule], primary, truth) for rule in frames]


def measured(
    of: Design, rule: str, frames: list[pd.DataFrame], used: list[float], primary: np.ndarray, truth: np.ndarray
) -> Row:
    """Return the row of one rule.

    Args:
        of: the design.
        rule: its name.
        frames: the report's contrasts of each grid.
        used: mean number of seeds of a condition, of each grid.
        primary: (contrasts,) which are primary.
        truth: (contrasts,) true differences.
    """
    value, low, high = (np.array([frame[name] for frame in frames], np.float64) for name in ("difference", "ci_low", "ci_high"))
    verdicts = np.array([frame["verdict"] for frame in frames])
    claims = (verdicts == BETTER).astype(np.int64) - (verdicts == WORSE)
    found = Found(value, low, high, claims, verdicts == EQUIVALENT)
    wrong_sign, wrong_equivalent = false_claims(found, truth)
    wrong = wrong_sign | wrong_equivalent
    covered = ((low <= truth) & (high >= truth))[:, primary].mean(axis=0)
    there = primary & (np.abs(truth) > 1e-9)
    decided = (claims != 0) | found.equivalent
    return {
        "design": of.name,
        "seeds": of.seeds,
        "rule": rule,
        "false": wrong[:, primary].any(axis=1).mean(),
        "false_any": wrong.any(axis=1).mean(),
        "coverage_lowest": covered.min(),
        "coverage": covered.mean(),
        "power": (decided & ~wrong)[:, there].mean() if there.any() else np.nan,
        "decided": decided[:, primary].mean(),
        "seeds_used": np.mean(used),
        "seeds_used_se": np.std(used, ddof=1) / len(used) ** 0.5,
    }


def described(rows: pd.DataFrame, runs: int) -> str:
    """Return the document: what was measured, and a row per design."""
    errors = [100 * (share * (1 - share) / runs) ** 0.5 for share in (0.05, 0.5)]
    lines = [
        "# Do seeds that stop when all is decided keep the error, and how many do they save?",
        "",
        f"`python tests/benchmarks/until_decided.py --runs {runs}`: {runs} simulated grids a design. A share of 5 % has a",
        f"standard error of {errors[0]:.1f} points, one of 50 % {errors[1]:.1f}, mean numbers of seeds one of at most",
        f"{rows['seeds_used_se'].max():.2f}. 1,000 items in clips of 1 to 6; standard deviations between seeds and effects are",
        "in points; the margin of equivalence is 2 points. Each field has three figures: all seeds are run / the *naive* rule",
        "(stop at the first look whose p, adjusted by Holm's method, is below .05, and report as if the number of seeds had",
        "been fixed) / `--until-decided`. The rule and the reports are the package's code (qtablate/report/until_decided.py).",
        "",
        "- false: share of reports in which any primary contrast is falsely better, worse or equivalent, and in which any",
        '  contrast at all is. "Equivalent" is false from a true difference of just the margin on.',
        "- coverage: how often the 95 % intervals of primary contrasts hold the true difference, the lowest and the mean.",
        "- power: share of primary contrasts with a true difference that are rightly called better, worse or equivalent.",
        "- decided: share of all primary contrasts.",
        "- seeds: mean number of seeds of a condition.",
        "",
        "| design | planned seeds | false, primary | false, any | lowest coverage | mean | power | decided | seeds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (name, seeds), group in rows.groupby(["design", "seeds"], sort=False):
        by_rule = group.set_index("rule").loc[[FIXED, NAIVE, RULE]]
        columns = ("false", "false_any", "coverage_lowest", "coverage", "power", "decided")
        shares = [
            "" if by_rule[one].isna().all() else " / ".join(f"{100 * share:.1f}" for share in by_rule[one]) for one in columns
        ]
        used = " / ".join(f"{count:.1f}" for count in by_rule["seeds_used"])
        lines.append(f"| {name} | {seeds} | {' | '.join(shares)} | {used} |")
    return "\n".join([*lines, *of_boundaries(200_000), ""])


def boundaries(planned: int, runs: int) -> list[float]:
    """Return how often t tests of normal values without effect reject at any look, at levels meant for .05 in all.

    Levels: .05 at each look; one level for all looks (Pocock) and levels that rise with the cube of the seeds (close to O'Brien
    and Fleming), both scaled so that tests with known variance reject in 5 %; and the package's shares.
    """
    values = np.random.default_rng((NUMBER, planned)).normal(size=(runs, planned))
    seeds = np.arange(looks(planned).start, planned + 1)
    means = np.cumsum(values, axis=1)[:, seeds - 1] / seeds
    variances = (np.cumsum(values**2, axis=1)[:, seeds - 1] - seeds * means**2) / (seeds - 1)
    p_known = 2 * normal_tail(np.abs(means) * np.sqrt(seeds))
    p = 2 * t_tail(np.abs(means) / np.sqrt(variances / seeds), seeds - 1)
    shapes = (np.ones(len(seeds)), (seeds / planned) ** 3)
    scaled = [shape * np.quantile((p_known / shape).min(axis=1), ALPHA) for shape in shapes]
    shares = ALPHA * np.array([error_share(int(count), planned) for count in seeds])
    return [float((p < level).any(axis=1).mean()) for level in (ALPHA * shapes[0], *scaled, shares)]


def of_boundaries(runs: int) -> list[str]:
    """Return the section on the levels of the looks."""
    lines = [
        "",
        "## Levels of the looks",
        "",
        f"Share of {runs:,} runs without effect in which a t test of independent normal values, with their own variance,",
        "rejects at any look (%); looks after the third seed and each later one. Pocock's levels are one for all looks,",
        "O'Brien and Fleming's rise with the cube of the seeds; both are such that tests with known variance reject in 5 %.",
        "Shares: those of `--until-decided` (statistics/sequential.py), which are Bonferroni's bound.",
        "",
        "| planned seeds | .05 at each look | Pocock | O'Brien and Fleming | shares |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    shares = {planned: boundaries(planned, runs) for planned in (4, 5, 6, 8, 10, 20)}
    rows = [f"| {planned} | {' | '.join(f'{100 * one:.1f}' for one in found)} |" for planned, found in shares.items()]
    return [*lines, *rows]


def _task(task: tuple[int, int]) -> tuple[int, list[Row]]:
    return task[0], rows_of(*task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # read by the processes that are started below
    start, found = time.perf_counter(), dict[int, list[Row]]()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        for number, rows in pool.imap_unordered(_task, [(number, arguments.runs) for number in range(len(DESIGNS))]):
            found[number] = rows
            print(f"{time.perf_counter() - start:6.0f} s  {len(found)} of {len(DESIGNS)}: {rows[0]['design']}", flush=True)
    table = pd.DataFrame([row for number in range(len(DESIGNS)) for row in found[number]])
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "until_decided.md").write_text(described(table, arguments.runs))


if __name__ == "__main__":
    main()
