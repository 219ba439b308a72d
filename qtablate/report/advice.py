"""Which condition is best, which others are equivalent to it, and the advice that follows; or why there is none."""

import pandas as pd

from qtablate.report.answers import Answers, Condition
from qtablate.report.contrasts import SIMPLE, Contrast
from qtablate.report.effects import contrast_frame
from qtablate.report.families import ALL
from qtablate.report.labels import condition_label, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.report.verdicts import EQUIVALENT, NOT_COMPARABLE, UNDECIDED, WORSE
from qtablate.statistics.clustered import MIN_CLIPS

BEST, HIGHEST = "best", "highest"
"""The condition of the highest accuracy: `best` where the data support it, `highest` where they do not."""
ERRORS = 2
"""Standard errors by which an accuracy must exceed chance, and its blind control, for its condition to be advised."""


def equivalent_to_best(done: pd.DataFrame, answers: Answers, margin: float) -> list[str]:
    """Compare every finished condition with the one of the highest accuracy, in a word each.

    `best`: the highest accuracy, where it is above chance and its blind control, and at least one other condition is surely
    worse or equivalent; `highest` otherwise. Others: `equivalent` where surely within the margin of it, `undecided`,
    `not comparable`, and empty where surely worse (Holm over the conditions). Conditions that break a rule of accumulation
    have an empty word.

    Args:
        done: the finished conditions of the summary.
        answers: of the finished cells.
        margin: as a share.
    """
    candidates = [condition for condition in answers.conditions if not answers.is_incorrect(condition)]
    if done.empty or not candidates:
        return [""] * len(done)
    accuracies = {
        condition: sum(answers.correct[condition, seed].mean() for seed in answers.seeds_of(condition))
        / len(answers.seeds_of(condition))
        for condition in candidates
    }
    best = max(accuracies, key=lambda condition: accuracies[condition])
    others = [condition for condition in candidates if condition != best]
    wanted = [
        Contrast(SIMPLE, "condition", number, BEST, {condition: 1.0, best: -1.0}) for number, condition in enumerate(others)
    ]
    frame = contrast_frame(answers, wanted, margin, per_task=False)
    verdicts = {others[int(row["level"])]: row["verdict"] for row in records_of(frame[frame["task"] == ALL])}
    words = {WORSE: "", EQUIVALENT: EQUIVALENT, NOT_COMPARABLE: NOT_COMPARABLE}
    word_of: dict[Condition, str] = {condition: words.get(verdict, UNDECIDED) for condition, verdict in verdicts.items()}
    rows = records_of(done)
    conditions = [tuple(row[axis] for axis in answers.axes) for row in rows]
    decided = any(verdict in (WORSE, EQUIVALENT) for verdict in verdicts.values())
    above = any(above_chance(row) for row, condition in zip(rows, conditions, strict=True) if condition == best)
    word_of[best] = BEST if decided and above else HIGHEST
    return [word_of.get(condition, "") for condition in conditions]


def above_chance(row: Row) -> bool:
    """Whether a condition of the summary is above chance, and above its blind control where that was run.

    Above means by ERRORS standard errors over items, of at least MIN_CLIPS clips.
    """
    gains = [(row["accuracy"] - row["chance"], row["accuracy_item_stderr"])]
    if not pd.isna(row["visual_gain"]):
        gains.append((row["visual_gain"], row["visual_gain_item_stderr"]))
    return bool(row["n_clusters"] >= MIN_CLIPS and all(gain > ERRORS * error for gain, error in gains))


def advice(costs: pd.DataFrame, summary: pd.DataFrame, margin: float) -> str:
    """Name the cheapest condition that is equivalent to the best; or say why the data support no advice.

    Args:
        costs: a row per finished condition (cost.py).
        summary: a row per condition.
        margin: as a share.
    """
    top = costs["equivalent_to_best"].isin((BEST, HIGHEST))
    if not top.any():
        return ""
    shown = shown_axes(costs)

    def label(row: Row) -> str:
        return f"{condition_label(row, shown)} ({100 * row['accuracy']:.1f} %)"

    [best] = records_of(costs[top])[:1]
    if best["equivalent_to_best"] == HIGHEST:
        return f"{_why_no_best(costs, summary, label(best), margin)}: no advice."
    text = f"Best here: {label(best)}. "
    undecided = [label(row) for row in records_of(costs[costs["equivalent_to_best"] == UNDECIDED])]
    if undecided:
        text += f"Undecided against the best: {'; '.join(undecided)}. "
    good = costs[costs["equivalent_to_best"].isin((BEST, EQUIVALENT))]
    [cheapest] = records_of(good.sort_values(["visual_tokens", "train_seconds"], kind="stable"))[:1]
    if cheapest["equivalent_to_best"] == BEST:
        return text + f"No cheaper condition is surely within {100 * margin:g} points of it."
    return text + (
        f"Cheapest condition that is surely within {100 * margin:g} points of it: {label(cheapest)}, "
        f"{int(cheapest['visual_tokens'])} instead of {int(best['visual_tokens'])} visual tokens."
    )


def _why_no_best(costs: pd.DataFrame, summary: pd.DataFrame, highest: str, margin: float) -> str:
    """Say why the condition of the highest accuracy is not called best."""
    done = summary[summary["seeds_done"] > 0]
    clips = int(done["n_clusters"].max())
    if clips < MIN_CLIPS:
        return f"Too few clips to call a condition best ({clips}, fewer than {MIN_CLIPS})"
    above = [above_chance(row) for row in records_of(done)]
    blind = " and its blind control" if done["visual_gain"].notna().any() else ""
    bar = f"chance ({100 * done['chance'].iloc[0]:.1f} %){blind} by {ERRORS} standard errors"
    if not any(above):
        return f"No condition is above {bar}"
    if not above[list(costs["equivalent_to_best"]).index(HIGHEST)]:
        return f"The highest accuracy, {highest}, is not above {bar}"
    if (costs["incorrect"] == "").sum() == 1:
        return f"There is no other condition to compare {highest} with"
    return (
        f"Highest accuracy: {highest}, but no other condition is surely worse than it or within {100 * margin:g} points of it"
    )
