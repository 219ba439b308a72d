"""What a condition costs, by formula and as measured, and which conditions are on the Pareto front of cost and accuracy."""

from collections.abc import Sequence

import pandas as pd

from qtablate.report.answers import Answers
from qtablate.report.decoders import Decoder
from qtablate.report.folder import AXES
from qtablate.report.recommendation import BEST, HIGHEST, above_chance, rank_conditions
from qtablate.report.rows import records_of
from qtablate.report.verdicts import EQUIVALENT, WORSE

TEXT_TOKENS = 64
"""Tokens of prompt and question that are read beside the visual ones."""
COLUMNS = (
    *AXES,
    "incorrect",
    "visual_tokens",
    "language_model",
    "prefill_gflops",
    "prefill_gflops_added",
    "cache_mb",
    "cache_mb_added",
    "step_seconds",
    "item_milliseconds",
    "peak_memory_mb",
    "train_seconds",
    "accuracy",
    "pareto_by_tokens",
    "pareto_by_time",
    "equivalent_to_best",
)


def cost_frame(summary: pd.DataFrame, answers: Answers, model: Decoder, margin: float) -> pd.DataFrame:
    """Return a row per finished condition of the summary.

    A condition is on a Pareto front where none with fewer visual tokens (`pareto_by_tokens`) or less training time
    (`pareto_by_time`) has as high an accuracy. Conditions that break a rule of accumulation are on neither front.

    Args:
        summary: a row per condition.
        answers: of the finished cells.
        model: language model of the costs by formula.
        margin: difference of accuracies, as a share, below which conditions are equivalent.
    """
    done = summary[summary["seeds_done"] > 0]
    rows = []
    for row in records_of(done):
        tokens = int(row["visual_tokens"])
        flops, cache = model.prefill_flops(TEXT_TOKENS + tokens), model.cache_bytes(TEXT_TOKENS + tokens)
        rows.append(
            {
                **{axis: row[axis] for axis in AXES},
                "incorrect": row["incorrect"],
                "visual_tokens": tokens,
                "language_model": model.name,
                "prefill_gflops": flops / 1e9,
                "prefill_gflops_added": (flops - model.prefill_flops(TEXT_TOKENS)) / 1e9,
                "cache_mb": cache / 1e6,
                "cache_mb_added": model.cache_bytes(tokens) / 1e6,
                "step_seconds": row["train_seconds"] / row["steps"] if row["steps"] else None,
                "item_milliseconds": 1000 * row["eval_seconds"] / row["n_items"],
                "peak_memory_mb": row["peak_memory_mb"],
                "train_seconds": row["train_seconds"],
                "accuracy": row["accuracy"],
            }
        )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    correct = frame["incorrect"] == ""
    for column, cost in (("pareto_by_tokens", "visual_tokens"), ("pareto_by_time", "train_seconds")):
        frame[column] = False
        if correct.any():
            frame.loc[correct, column] = pareto(list(frame.loc[correct, cost]), list(frame.loc[correct, "accuracy"]))
    frame["equivalent_to_best"] = _standings(done, answers, margin)
    return frame


def _standings(done: pd.DataFrame, answers: Answers, margin: float) -> list[str]:
    """Compare every finished condition with the one of the highest accuracy, in a word each.

    `best`: the highest accuracy, where it is above chance and its blind control, and at least one other condition is surely
    worse or equivalent; `highest` otherwise. Others: `equivalent`, `undecided` where not surely worse, `not comparable`, and
    empty where surely worse (recommendation.py). Conditions that break a rule of accumulation have an empty word.
    """
    ranking = rank_conditions(answers, margin)
    if done.empty or ranking is None:
        return [""] * len(done)
    rows = records_of(done)
    conditions = [tuple(row[axis] for axis in answers.axes) for row in rows]
    decided = {WORSE, EQUIVALENT} & set(ranking.standing.values())
    above = any(above_chance(row) for row, condition in zip(rows, conditions, strict=True) if condition == ranking.highest)
    words = {WORSE: "", HIGHEST: BEST if decided and above else HIGHEST}
    standings = [ranking.standing.get(condition, "") for condition in conditions]
    return [words.get(standing, standing) for standing in standings]


def pareto(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """Say which points are on the Pareto front: no other is as cheap and better, or cheaper and as good."""
    points = list(zip(costs, values, strict=True))
    return [not any((c <= cost and v > value) or (c < cost and v >= value) for c, v in points) for cost, value in points]
