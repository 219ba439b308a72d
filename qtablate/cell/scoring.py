"""Score a cell's items under every control, and sum the answers up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qtablate.cell.build import PreparedModel, blank_features
from qtablate.controls import BLIND, FULL, SHUFFLED
from qtablate.datatypes import Item
from qtablate.evaluate.controls import Features, apply_control
from qtablate.evaluate.prompt import LIKELIHOOD
from qtablate.evaluate.score import score
from qtablate.evaluate.scores import Scores
from qtablate.records import TaskScore
from qtablate.statistics.clustered import ClusteredMean, clustered_mean


def score_items(
    prepared: PreparedModel,
    items: Sequence[Item],
    control: str,
    features: Callable[[str], Features],
    report: Callable[[int], None],
    scorers: Sequence[str] = (LIKELIHOOD,),
) -> dict[str, list[Scores]]:
    """Score every item under a control; the scores are in the items' order, by scorer.

    Args:
        features: gives the features of all clips under a control.
        report: called with the number of items that are done.
    """
    posed, seen = apply_control(control, items, features, lambda medium: blank_features(prepared.model, medium))
    original = {item.id: item for item in items}
    scored: dict[tuple[str, str], Scores] = {}
    with prepared.compute.autocast():
        for group in score(prepared.model, prepared.encoder, posed, seen.__getitem__, scorers):
            scored |= {(one.scorer, one.item.id): replace(one, item=original[one.item.id]) for one in group}
            report(len(scored) // len(scorers))
    return {scorer: [scored[scorer, item.id] for item in items] for scorer in scorers}


@dataclass(frozen=True, slots=True)
class AnswerSummary:
    """Accuracies of a cell over items and per task, in full and under every control: fields of Figures."""

    accuracy: ClusteredMean
    accuracy_macro: float | None
    accuracy_per_token: ClusteredMean
    controls: dict[str, ClusteredMean]
    visual_gain: ClusteredMean
    temporal_gain: ClusteredMean
    chance: float
    tasks: tuple[TaskScore, ...]


def summarize(answers: Mapping[str, Sequence[Scores]]) -> AnswerSummary:
    """Sum up the scores of a cell's items, by control."""
    scores = answers[FULL]
    correct = {control: [float(one.predicted == one.item.answer) for one in under] for control, under in answers.items()}
    correct_per_token = [float(one.predicted_per_token == one.item.answer) for one in scores]
    clusters = [one.item.cluster for one in scores]
    chances = [1 / len(one.item.options) for one in scores]
    everything = range(len(scores))

    def over(values: Sequence[float], rows: Sequence[int]) -> ClusteredMean:
        return clustered_mean([values[row] for row in rows], [clusters[row] for row in rows])

    def controls(rows: Sequence[int]) -> dict[str, ClusteredMean]:
        return {control: over(values, rows) for control, values in correct.items() if control != FULL}

    def gain(control: str) -> ClusteredMean:
        if control not in correct:
            return ClusteredMean(None, None, 0)
        return over([a - b for a, b in zip(correct[FULL], correct[control], strict=True)], everything)

    tasks = []
    for task in dict.fromkeys(one.item.task for one in scores):
        rows = [row for row in everything if scores[row].item.task == task]
        chance = float(np.mean([chances[row] for row in rows]))
        tasks.append(TaskScore(task, over(correct[FULL], rows), over(correct_per_token, rows), controls(rows), chance))
    macro = [task.accuracy.value for task in tasks if task.accuracy.value is not None]
    return AnswerSummary(
        accuracy=over(correct[FULL], everything),
        accuracy_macro=float(np.mean(macro)) if macro else None,
        accuracy_per_token=over(correct_per_token, everything),
        controls=controls(everything),
        visual_gain=gain(BLIND),
        temporal_gain=gain(SHUFFLED),
        chance=float(np.mean(chances)),
        tasks=tuple(tasks),
    )
