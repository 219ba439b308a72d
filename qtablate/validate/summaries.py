"""Summarize the tasks of a benchmark and the sources of a training file, and find what would make their scores misleading."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from qtablate.datatypes import Item, Sample
from qtablate.validate import findings as kinds
from qtablate.validate.findings import Finding
from qtablate.validate.text_bias import (
    Sortedness,
    TextBias,
    chance,
    gold_positions,
    gold_positions_p,
    normalize_text,
    sortedness,
    text_bias,
)

SORTED_SCORE, SORTED_Z = 0.5, 4.0
"""Limits of sortedness: halfway from a random order to one block per label, and significantly so."""
TEXT_BIAS_Z = 4.0
"""Limit of text bias above chance. The chosen answers come from the items they are scored on, so random ones pass 3 in 1 of 100
tasks."""
POSITIONS_P = 0.01
"""Limit of the p-value of gold positions, over all tasks together (Bonferroni)."""


class MinMax(NamedTuple):
    """Smallest and largest number of candidates."""

    min: int
    max: int


class PairCounts(NamedTuple):
    """Question-answer pairs per sample."""

    min: int
    median: float
    max: int


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """One task of a benchmark; the figures are those of its usable items, None without any."""

    task: str
    entries: int
    """Entries in the task's file."""
    usable: int
    """Items whose entry and clip can be used."""
    clips: int
    candidates: MinMax | None = None
    """Candidates per item."""
    chance: float | None = None
    text_bias: TextBias | None = None
    positions: tuple[int, ...] = ()
    """How often the gold answer is the first candidate, the second, and so on."""
    positions_p: float | None = None
    """P-value of these positions if all were equally likely."""
    text_order: Sortedness | None = None
    """How sorted the items are by gold answer."""
    position_order: Sortedness | None = None
    """How sorted the items are by gold position."""


@dataclass(frozen=True, slots=True)
class SourceSummary:
    """The usable samples of one folder and medium."""

    source: str
    """First folder in the clips' names; "." where they have none."""
    medium: str
    samples: int
    clips: int
    pairs: PairCounts
    without_question: int
    """Samples without any question."""
    empty_answers: int
    """Answers without text."""


def summarize_task(task: str, entries: int, items: Sequence[Item]) -> TaskSummary:
    """Summarize a task with so many entries and these usable items."""
    if not items:
        return TaskSummary(task, entries, 0, 0)
    golds = [normalize_text(item.options[item.answer]) for item in items]
    numbers = [len(item.options) for item in items]
    return TaskSummary(
        task,
        entries,
        usable=len(items),
        clips=len({item.clip for item in items}),
        candidates=MinMax(min(numbers), max(numbers)),
        chance=chance(items),
        text_bias=text_bias(items),
        positions=gold_positions(items),
        positions_p=gold_positions_p(items),
        text_order=sortedness(golds),
        position_order=sortedness([item.answer + 1 for item in items]),
    )


def check_task(task: TaskSummary, num_tasks: int) -> Iterator[Finding]:
    """Find a sorted file, text bias and uneven gold positions of one of `num_tasks` tasks."""
    for label, order in (("gold answers", task.text_order), ("gold positions", task.position_order)):
        if order and order.score >= SORTED_SCORE and order.z >= SORTED_Z:
            yield Finding(
                kinds.SORTED_BY_GOLD,
                task.task,
                f"{label}: {order.equal_neighbors} of {task.usable - 1} neighbors are equal, {order.expected:.0f} would be in "
                f"a random order (sortedness {order.score:.2f}, z {order.z:.1f}); {order.most_common!r:.30} is "
                f"{order.first_quarter_share:.0%} of the first quarter and {order.overall_share:.0%} of all",
            )
    if task.text_bias and task.chance is not None and task.text_bias.z > TEXT_BIAS_Z:
        yield Finding(
            kinds.TEXT_BIAS,
            task.task,
            f"the most frequent gold answer is correct in {task.text_bias.accuracy:.1%}, chance is {task.chance:.1%}, "
            f"{task.text_bias.z:.1f} standard errors above it",
        )
    if task.positions_p is not None and task.positions_p * num_tasks < POSITIONS_P:
        counts = " / ".join(map(str, task.positions))
        detail = f"gold at {counts}, p {task.positions_p:.1e} if all positions were equally likely"
        yield Finding(kinds.UNEVEN_POSITIONS, task.task, detail)


def summarize_source(source: str, medium: str, samples: Sequence[Sample]) -> SourceSummary:
    """Summarize the usable samples of a folder and medium."""
    pairs = [len(sample.pairs) for sample in samples]
    return SourceSummary(
        source,
        medium,
        samples=len(samples),
        clips=len({sample.clip for sample in samples}),
        pairs=PairCounts(min(pairs), float(median(pairs)), max(pairs)),
        without_question=sum(not any(question for question, _ in sample.pairs) for sample in samples),
        empty_answers=sum(not answer for sample in samples for _, answer in sample.pairs),
    )


def check_sources(sources: Sequence[SourceSummary]) -> Iterator[Finding]:
    """Report each source's share where there are several."""
    counts: Counter[str] = Counter()
    for summary in sources:
        counts[summary.source] += summary.samples
    if len(counts) > 1:
        for source, number in counts.most_common():
            share = number / counts.total()
            yield Finding(kinds.SEVERAL_SOURCES, source, f"{number} of {counts.total()} samples ({share:.1%})")
