"""Measure what a task's texts give away without the clips: chance, text bias, gold positions and the order of the file."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from qtablate.datatypes import Item
from qtablate.statistics.distributions import chi2_tail


def normalize_text(text: str) -> str:
    """Remove what readers overlook: case, repeated spaces and a final full stop."""
    return " ".join(text.split()).casefold().rstrip(".")


def chance(items: Sequence[Item]) -> float:
    """Return the expected accuracy of random guesses: the mean of 1 / candidates."""
    return float(np.mean([1 / len(item.options) for item in items]))


@dataclass(frozen=True, slots=True)
class TextBias:
    """Accuracy of always choosing the most frequent gold answer."""

    accuracy: float
    stderr: float
    """Of accuracy minus chance, clustered by clip; NaN where all items share one clip."""
    z: float
    """(accuracy - chance) divided by the larger of that standard error and the one of random guesses."""


def text_bias(items: Sequence[Item]) -> TextBias:
    """Choose for each item the candidate that is most often gold among the task's other items, and score these choices.

    The item itself is excluded from the counts, so that a task with evenly spread answers falls below chance, never above.
    Candidates that are equally often gold share the point.
    """
    gold_counts = Counter(normalize_text(item.options[item.answer]) for item in items)
    excess: list[float] = []
    for item in items:
        gold = normalize_text(item.options[item.answer])
        counts = [gold_counts[normalize_text(option)] - (normalize_text(option) == gold) for option in item.options]
        score = (counts[item.answer] == max(counts)) / counts.count(max(counts))
        excess.append(score - 1 / len(item.options))
    mean_excess = float(np.mean(excess))
    cluster_sums: dict[str, float] = defaultdict(float)
    for item, value in zip(items, excess, strict=True):
        cluster_sums[item.cluster] += value - mean_excess
    count, clusters = len(items), len(cluster_sums)
    squares = sum(value**2 for value in cluster_sums.values())
    stderr = float(np.sqrt(squares * clusters / (clusters - 1)) / count) if clusters > 1 else float("nan")
    guess_stderr = float(np.sqrt(sum((1 - 1 / len(item.options)) / len(item.options) for item in items)) / count)
    larger = max(guess_stderr, 0.0 if np.isnan(stderr) else stderr)
    return TextBias(mean_excess + chance(items), stderr, mean_excess / larger if larger else 0.0)


def gold_positions(items: Sequence[Item]) -> tuple[int, ...]:
    """Count how often the gold answer is the first candidate, the second, and so on."""
    counts = Counter(item.answer for item in items)
    return tuple(counts[position] for position in range(max(len(item.options) for item in items)))


def gold_positions_p(items: Sequence[Item]) -> float:
    """Return the chi-square p-value of the gold positions against uniform ones, given each item's number of candidates.

    With k candidates everywhere this is Pearson's test. Where k varies, expected counts and their covariance are summed over
    the items, and the statistic is the quadratic form with that covariance.
    """
    counts = np.array(gold_positions(items), float)
    expected, covariance = np.zeros_like(counts), np.zeros((len(counts), len(counts)))
    for k, number in Counter(len(item.options) for item in items).items():
        expected[:k] += number / k
        covariance[:k, :k] += number * (np.eye(k) / k - 1 / k**2)
    residual = counts - expected
    if len(counts) < 2:
        return 1.0
    return float(chi2_tail(residual @ np.linalg.pinv(covariance, hermitian=True) @ residual, len(counts) - 1))


@dataclass(frozen=True, slots=True)
class Sortedness:
    """How sorted a sequence of labels is: its equal neighbors, compared with those of a random order."""

    equal_neighbors: int
    """Pairs of neighbors with one label."""
    expected: float
    """Equal neighbors in a random order."""
    score: float
    """0: as in a random order; 1: each label in one block; below 0: labels alternate."""
    z: float
    """Excess of equal neighbors by its standard deviation over all orders (runs test of Wald and Wolfowitz for several
    labels)."""
    most_common: Hashable
    """Most frequent label of the first quarter."""
    first_quarter_share: float
    """Its share of the first quarter."""
    overall_share: float
    """Its share of all labels."""


_MIN_ITEMS_PER_LABEL = 4  # with fewer on average, labels are not classes, and a block of two says nothing
_MIN_OTHER_ITEMS = 8  # items of another label than the most common: fewer are neighbors by chance too often


def sortedness(labels: Sequence[Hashable]) -> Sortedness | None:
    """Measure how sorted labels are; None where there is nothing to sort: hardly more than one label, or hardly any repeat."""
    n, sizes = len(labels), np.array(list(Counter(labels).values()), float)
    if not n or n - sizes.max() < _MIN_OTHER_ITEMS or n < _MIN_ITEMS_PER_LABEL * len(sizes):
        return None
    squares, cubes = float((sizes**2).sum()), float((sizes**3).sum())
    expected = squares / n - 1
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    equal = sum(left == right for left, right in pairwise(labels))
    score, z = (equal - expected) / (n - len(sizes) - expected), (equal - expected) / variance**0.5
    (most_common, times), *_ = Counter(labels[: n // 4]).most_common(1)
    return Sortedness(equal, expected, score, z, most_common, times / (n // 4), labels.count(most_common) / n)
