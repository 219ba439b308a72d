"""Measures coverage of the intervals, familywise error and power on simulated grids with known effects.

    python tests/benchmarks/calibration.py [--runs 1000] [--out results/statistics]

Answers are drawn item by item: an answer is correct with a probability that depends on the clip, on the run (condition and
seed) and on the condition. The effect of the condition is known. Counted are how often the interval covers it, how often a
family without effects claims one, and how often a true effect is found, against the prediction. The report's intervals are
compared with the percentile bootstrap over seeds and clips, and with an interval that treats items as independent and seeds
as fixed.
"""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from learner import clock, markdown
from numpy.typing import NDArray
from scipy import stats

from qtablate.statistics.estimate import ALPHA, Estimate, estimate, holm, pooled_seed_variance
from qtablate.statistics.power import minimum_detectable_effect

RESAMPLES = 400
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Design:
    """What is simulated. Standard deviations are of probabilities: .01 is a point."""

    conditions: int
    seeds: int
    clips: int
    items: int
    """Of each clip, on average: 1 to 2 * items - 1."""
    seed_sd: float
    """Of one run's accuracy, by its seed."""
    clip_sd: float
    """Of a clip's effect: what helps on one clip hurts on another."""
    effect: float = 0.0


DESIGNS = [
    Design(conditions, seeds, clips, items, seed_sd, 0.1)
    for conditions, seeds in ((2, 3), (2, 5), (3, 3), (6, 2), (6, 3), (8, 5))
    for clips, items in ((600, 3), (100, 5))
    for seed_sd in (0.0, 0.02)
]


def answers(design: Design, random: np.random.Generator) -> tuple[Floats, NDArray[np.int64]]:
    """Right and wrong answers, (condition, item, seed), and the items' clips. The last condition alone has the effect."""
    sizes = random.integers(1, 2 * design.items, design.clips)
    clips = np.repeat(np.arange(design.clips), sizes)
    hard = random.uniform(0.3, 0.6, (1, len(clips), 1))
    # two values each, so that no probability leaves 0 and 1 and the effect is exact
    of_clip = design.clip_sd * random.choice([-1.0, 1.0], (design.conditions, design.clips, 1))[:, clips]
    of_seed = random.normal(0, design.seed_sd, (design.conditions, 1, design.seeds)).clip(-0.1, 0.1)
    effect = design.effect * (np.arange(design.conditions) == design.conditions - 1)[:, None, None]
    draws = random.uniform(size=(design.conditions, len(clips), design.seeds))
    return (draws < hard + of_clip + of_seed + effect).astype(float), clips


def contrasts(right: Floats, clips: NDArray[np.int64]) -> list[Estimate]:
    """Each condition against the first, as the report has them."""
    noise = pooled_seed_variance(right.mean(axis=1))
    return [estimate(one - right[0], clips, noise) for one in right[1:]]


def bootstrap(difference: Floats, clips: NDArray[np.int64], random: np.random.Generator) -> tuple[float, float]:
    """Percentile interval, clips and seeds drawn anew."""
    groups, seeds = clips.max() + 1, difference.shape[1]
    sums, sizes = np.zeros((groups, seeds)), np.bincount(clips).astype(float)
    np.add.at(sums, clips, difference)
    of_clips = random.multinomial(groups, np.full(groups, 1 / groups), RESAMPLES).astype(float)
    of_seeds = random.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    means = ((of_clips @ sums) * of_seeds).sum(1) / (of_clips @ sizes)
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def naive(difference: Floats) -> tuple[float, float]:
    """Items independent, seeds fixed: a paired t-test on the items' means."""
    mean = difference.mean(axis=1)
    half = stats.t.ppf(1 - ALPHA / 2, len(mean) - 1) * mean.std(ddof=1) / len(mean) ** 0.5
    return float(mean.mean() - half), float(mean.mean() + half)


def coverage(design: Design, runs: int, seed: int) -> dict[str, float]:
    random = np.random.default_rng(seed)
    held = {"report": 0, "bootstrap": 0, "naive": 0}
    widths = []
    for _ in range(runs):
        right, clips = answers(design, random)
        difference = right[-1] - right[0]
        one = contrasts(right, clips)[-1]
        intervals = {"report": one.interval(), "bootstrap": bootstrap(difference, clips, random), "naive": naive(difference)}
        widths.append(intervals["report"][1] - intervals["report"][0])
        for name, (low, high) in intervals.items():
            held[name] += low <= design.effect <= high
    return {name: count / runs for name, count in held.items()} | {"width": float(np.median(widths))}


def family(design: Design, runs: int, seed: int) -> dict[str, float]:
    """How often any condition is said to differ from the first when none does, before and after Holm."""
    random = np.random.default_rng(seed)
    claims = {"unadjusted": 0, "holm": 0}
    for _ in range(runs):
        p = [one.p for one in contrasts(*answers(design, random))]
        claims["unadjusted"] += min(p) < ALPHA
        claims["holm"] += min(holm(p)) < ALPHA
    return {name: count / runs for name, count in claims.items()}


def power(design: Design, runs: int, seed: int) -> dict[str, float]:
    """How often an effect of the size that is called detectable is found. That size is the median of what runs of this
    design predict, effect or none."""
    random = np.random.default_rng(seed)
    first = []
    for _ in range(200):
        one = contrasts(*answers(design, random))[-1]
        first.append(float(minimum_detectable_effect(np.array([one.stderr]), np.array([one.dof]))[0]))
    effect = float(np.median(first))
    found = 0
    for _ in range(runs):
        found += contrasts(*answers(replace(design, effect=effect), random))[-1].p < ALPHA
    return {"mde": effect, "power": found / runs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    arguments = parser.parse_args()
    say, rows = clock(), []
    for number, design in enumerate(DESIGNS):
        row = {name: getattr(design, name) for name in ("conditions", "seeds", "clips", "items", "seed_sd", "clip_sd")}
        row |= coverage(design, arguments.runs, 1000 + number)
        row |= {f"family {name}": value for name, value in family(design, arguments.runs, 2000 + number).items()}
        row |= power(design, arguments.runs, 3000 + number)
        rows.append(row)
        say(str({name: round(value, 3) for name, value in row.items()}))
    table = pd.DataFrame(rows)
    arguments.out.mkdir(parents=True, exist_ok=True)
    table.round(4).to_csv(arguments.out / "calibration.csv", index=False)
    (arguments.out / "calibration.md").write_text(described(table, arguments.runs))


def described(table: pd.DataFrame, runs: int) -> str:
    """The table for readers, in percent and points."""
    shown = table.assign(**{name: 100 * table[name] for name in table.columns[4:]})
    return f"""# Do the intervals hold what they promise?

`python tests/benchmarks/calibration.py --runs {runs}`: {runs} simulated grids a row; a share of 95 % has a standard error of
{100 * (0.95 * 0.05 / runs) ** 0.5:.1f} points. What is simulated: so many conditions and seeds, clips, items a clip
(on average), the standard deviation of a run's accuracy by its seed and that of a clip's effect, in points.

- report, bootstrap, naive: how often the 95 % interval covers the true difference: of the report; of the percentile
  bootstrap over clips and seeds; of a paired t-test that takes items for independent and seeds for fixed.
- width: median width of the report's interval, in points.
- family: how often any condition is said to differ from the first when none does, without and with Holm's adjustment.
- mde, power: the minimum detectable effect (median of 200 grids), and the share that found it; 80 % is promised.

{markdown(shown, 1)}"""


if __name__ == "__main__":
    main()
