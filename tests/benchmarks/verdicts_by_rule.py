"""Compares what the report's former rule and its present one say of the same finished sweeps.

    python tests/benchmarks/verdicts_by_rule.py DIR [DIR ...] [--out results/statistics]

DIR are results folders with their cells. Both rules read the same answers (interval_rules.py holds the former one), so that
nothing but the rule differs.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from interval_rules import OLD, RULES, apply, parts, stacked
from learner import markdown

from qtablate.report.answers import ACCURACY, Answers, read_answers
from qtablate.report.contrasts import Contrast, baselines, contrasts
from qtablate.report.effects import contrast_frame
from qtablate.report.frames import cell_frame
from qtablate.report.rows import records_of
from qtablate.report.sentences import comparison_label, fixed_levels_label
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

MARGIN = 0.02


def former_verdicts(answers: Answers, wanted: list[Contrast]) -> tuple[list[str], Floats, Floats]:
    """Return the verdict and the ends of the interval of each contrast by the former rule.

    Items are put in the order of their clips, as interval_rules.parts wants them.
    """
    conditions = answers.conditions
    seeds = list(dict.fromkeys(seed for _, seed in answers.correct))
    order = np.argsort(answers.clips, kind="stable")
    clips = np.unique(answers.clips[order], return_inverse=True)[1]
    done = np.array([[(one, seed) in answers.correct for seed in seeds] for one in conditions])
    missing = np.zeros(len(order))
    correct = np.array([[answers.correct.get((one, seed), missing)[order] for seed in seeds] for one in conditions])
    weights = np.array([[contrast.weights.get(one, 0.0) for one in conditions] for contrast in wanted])
    found = apply(RULES[OLD], stacked([parts(correct, clips, done, weights)]), wanted, MARGIN)
    words = [
        "equivalent" if same else {1: "better", -1: "worse", 0: "undecided"}[int(claim)]
        for claim, same in zip(found.claims[0], found.equivalent[0], strict=True)
    ]
    return words, found.low[0], found.high[0]


def compared(folder: Path) -> list[dict[str, object]]:
    """Return a row per contrast of a sweep."""
    store = Store(folder)
    answers = read_answers(store, cell_frame(store), store.read_sweep())
    wanted = contrasts(answers, baselines(answers, {}))
    frame = contrast_frame(answers, wanted, MARGIN, per_task=False, outcomes=(ACCURACY,), power=False)
    old, low, high = former_verdicts(answers, wanted)
    return [
        {
            "sweep": folder.name,
            "comparison": comparison_label(row),
            "fixed levels": fixed_levels_label(row),
            "primary": "yes" if row["primary"] else "",
            "points": f"{100 * row['difference']:+.1f}",
            "former interval": f"{100 * low[number]:+.1f} to {100 * high[number]:+.1f}",
            "former verdict": old[number],
            "interval": "" if pd.isna(row["ci_low"]) else f"{100 * row['ci_low']:+.1f} to {100 * row['ci_high']:+.1f}",
            "verdict": str(row["verdict"]),
        }
        for number, row in enumerate(records_of(frame))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    arguments = parser.parse_args()
    rows = [row for folder in arguments.folders for row in compared(folder)]
    changes = Counter((str(row["former verdict"]), str(row["verdict"])) for row in rows)
    table = pd.DataFrame(
        sorted(({"former": old, "now": new, "contrasts": count} for (old, new), count in changes.items()), key=str)
    )
    names = " ".join(folder.name for folder in arguments.folders)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "verdicts.md").write_text(
        f"""# Verdicts of the committed sweeps by the former rule and the present one

`python tests/benchmarks/verdicts_by_rule.py {names}`:
{len(rows)} contrasts of {len(arguments.folders)} sweeps, on the same answers. Former: variance between seeds pooled over the
sweep, Holm's adjustment by axis and kind.

{markdown(table, 0)}
{markdown(pd.DataFrame(rows), 1)}"""
    )


if __name__ == "__main__":
    main()
