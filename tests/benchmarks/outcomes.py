"""Measures how much smaller a difference the likelihoods of the options can detect than the accuracy, on finished sweeps.

    python tests/benchmarks/outcomes.py DIR [DIR ...] [--out results/statistics]

DIR are results folders with their cells. Accuracy and probability of the correct option go through the same contrasts. Their
units differ, so a difference of probabilities is translated into one of accuracies: by the slope of the one on the other over
all simple and averaged contrasts of all sweeps, through the origin. The second part measures what moves a likelihood without
moving an answer: likelihoods that are only sharpened or flattened.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from learner import markdown

from qtablate.report.answers import ACCURACY, LOG_MARGIN, PROBABILITY, Answers, read_answers
from qtablate.report.contrasts import INTERACTION, SIMPLE, Contrast, baselines, contrasts
from qtablate.report.effects import contrast_frame
from qtablate.report.frames import cell_frame
from qtablate.report.verdicts import BETTER, WORSE
from qtablate.store import Store

MARGIN = 0.02
TEMPERATURES = (0.8, 0.9, 1.1, 1.25)
"""What the log-likelihoods of options are divided by."""


def frame_of(folder: Path) -> pd.DataFrame:
    """Return the contrasts over all items of a sweep, of every outcome."""
    answers = _answers(folder)
    wanted = contrasts(answers, baselines(answers, {}))
    frame = contrast_frame(answers, wanted, MARGIN, per_task=False)
    return frame[(frame["kind"] != INTERACTION) & frame["stderr"].notna()].assign(sweep=folder.name)


def _answers(folder: Path) -> Answers:
    store = Store(folder)
    return read_answers(store, cell_frame(store), store.read_sweep())


def compared(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, float]]:
    """Return a row per sweep and outcome: what it detects relative to the accuracy; and the slopes."""
    keys = ["sweep", "kind", "axis", "level", "fixed_levels"]
    wide = frame.pivot_table(index=keys, columns="outcome", values=["difference", "stderr", "mde"], aggfunc="first", sort=False)
    slopes, rows = {}, []
    for outcome in (PROBABILITY, LOG_MARGIN):
        accuracy, other = wide["difference"][ACCURACY], wide["difference"][outcome]
        slopes[outcome] = float((accuracy * other).sum() / (accuracy**2).sum())
        for sweep, group in wide.groupby("sweep", sort=False):
            ratio = group["mde"][outcome] / slopes[outcome] / group["mde"][ACCURACY]
            errors = group["stderr"][outcome] / slopes[outcome] / group["stderr"][ACCURACY]
            rows.append(
                {
                    "sweep": sweep,
                    "outcome": outcome,
                    "contrasts": len(group),
                    "standard error / accuracy's": float(errors.median()),
                    "detectable / accuracy's": float(ratio.median()),
                    "lowest": float(ratio.min()),
                    "highest": float(ratio.max()),
                }
            )
    return pd.DataFrame(rows), slopes


def sharpened(folder: Path) -> pd.DataFrame:
    """Return what each outcome says of conditions and the same ones at other temperatures: no answer differs."""
    answers = _answers(folder)
    [first, *_] = answers.conditions
    cells = _cells_of(folder, first, answers)
    rows = []
    for temperature in TEMPERATURES:
        changed = {seed: _probabilities(folder, key, answers, temperature) for seed, key in cells.items()}
        other = (*first[:-1], "other temperature")
        both = replace(
            answers,
            correct={(one, seed): answers.correct[first, seed] for one in (first, other) for seed in cells},
            probability={
                **{(first, seed): answers.probability[first, seed] for seed in cells},
                **{(other, seed): values for seed, values in changed.items()},
            },
            log_margin={},
            budgets={},
        )
        wanted = [Contrast(SIMPLE, "condition", "other temperature", "as it is", {other: 1.0, first: -1.0})]
        found = contrast_frame(both, wanted, MARGIN, per_task=False, outcomes=(ACCURACY, PROBABILITY)).set_index("outcome")
        rows.append(
            {
                "temperature": temperature,
                **{f"{name}: points": 100 * float(found.loc[name, "difference"]) for name in (ACCURACY, PROBABILITY)},
                "probability: verdict": str(found.loc[PROBABILITY, "verdict"]),
            }
        )
    return pd.DataFrame(rows)


def _cells_of(folder: Path, condition: tuple[object, ...], answers: Answers) -> dict[int, str]:
    """Return the key of each cell of a condition, by seed."""
    rows = cell_frame(Store(folder)).to_dict("records")
    return {int(row["seed"]): str(row["key"]) for row in rows if tuple(row[axis] for axis in answers.axes) == condition}


def _probabilities(folder: Path, key: str, answers: Answers, temperature: float) -> np.ndarray:
    """Return the probability of each item's correct option at a temperature."""
    rows = (
        pd.read_csv(Store(folder).cell_file(key, "answers.csv")).query("control == 'full'").set_index("item").loc[answers.items]
    )
    out = []
    for text, gold in zip(rows["scores"], rows["gold"], strict=True):
        values = np.array(text.split(";"), dtype=np.float64) / temperature
        out.append(float(np.exp(values[gold] - np.logaddexp.reduce(values))))
    return np.array(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("results/statistics"))
    arguments = parser.parse_args()
    frame = pd.concat([frame_of(folder) for folder in arguments.folders], ignore_index=True)
    table, slopes = compared(frame)
    decided = frame.assign(decided=frame["verdict"].isin((BETTER, WORSE))).groupby("outcome", sort=False)["decided"]
    counts = ", ".join(f"{name} {int(group.sum())}" for name, group in decided)
    sharp = sharpened(arguments.folders[0])
    arguments.out.mkdir(parents=True, exist_ok=True)
    contrasts_each = len(frame) // frame["outcome"].nunique()
    names = " ".join(folder.name for folder in arguments.folders)
    (arguments.out / "outcomes.md").write_text(
        f"""# Which outcome sees more

`python tests/benchmarks/outcomes.py {names}`:
{len(arguments.folders)} sweeps, {contrasts_each} simple and averaged contrasts. Over these, a point of accuracy goes with
{slopes[PROBABILITY]:.2f} points of probability of the correct option, and with {slopes[LOG_MARGIN] / 100:.3f} nats of log
margin. In these units, and relative to the accuracy: the standard error, and the smallest reliably detectable difference
(median, lowest, highest).

{markdown(table, 2)}
Called better or worse, of {contrasts_each} contrasts each: {counts}.

## What moves a likelihood without moving an answer

The first condition of {arguments.folders[0].name} against itself, with the log-likelihoods of the options divided by a
temperature. No answer differs.

{markdown(sharp, 2)}
So the accuracy stays primary: a probability that differs may mean better answers, or surer ones.
"""
    )


if __name__ == "__main__":
    main()
