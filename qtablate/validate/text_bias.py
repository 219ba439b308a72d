"""What the texts of a task give away: chance, the text-only prior, where the gold stands, whether the file is sorted."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.stats import chi2

from qtablate.datatypes import Item


def plain(text: str) -> str:
    """A text without what readers overlook: case, spaces, a last full stop."""
    return " ".join(text.split()).casefold().rstrip(".")


def chance(items: Sequence[Item]) -> float:
    """Mean of 1 / candidates."""
    return float(np.mean([1 / len(item.options) for item in items]))


@dataclass(frozen=True, slots=True)
class Prior:
    """How often a reader of answers alone is right."""

    accuracy: float
    stderr: float
    """Of accuracy minus chance, clustered by clip; not a number where all items show one clip."""
    z: float
    """(accuracy - chance) by the larger of that standard error and a blind guesser's own."""


def prior(items: Sequence[Item]) -> Prior:
    """Always answers with that of an item's candidates which is most often gold among the task's other items.

    The item itself is left out of the count, so that a task whose answers are spread evenly falls below chance, never
    above. Candidates that are equally often gold share the point.
    """
    golds = Counter(plain(item.options[item.answer]) for item in items)
    excess: list[float] = []
    for item in items:
        gold = plain(item.options[item.answer])
        others = [golds[plain(option)] - (plain(option) == gold) for option in item.options]
        score = (others[item.answer] == max(others)) / others.count(max(others))
        excess.append(score - 1 / len(item.options))
    above = float(np.mean(excess))
    sums: dict[str, float] = defaultdict(float)
    for item, value in zip(items, excess, strict=True):
        sums[item.cluster] += value - above
    count, clusters = len(items), len(sums)
    squares = sum(value**2 for value in sums.values())
    stderr = float(np.sqrt(squares * clusters / (clusters - 1)) / count) if clusters > 1 else float("nan")
    guess = float(np.sqrt(sum((1 - 1 / len(item.options)) / len(item.options) for item in items)) / count)
    larger = max(guess, 0.0 if np.isnan(stderr) else stderr)
    return Prior(above + chance(items), stderr, above / larger if larger else 0.0)


def positions(items: Sequence[Item]) -> tuple[int, ...]:
    """How often the gold stands first, second, ..."""
    counts = Counter(item.answer for item in items)
    return tuple(counts[place] for place in range(max(len(item.options) for item in items)))


def positions_p(items: Sequence[Item]) -> float:
    """Chi-square p of the gold's places against uniform ones given each item's candidates.

    With k candidates everywhere this is Pearson's test. Where k varies, expected counts and their covariance are summed
    over the items, and the statistic is the quadratic form with that covariance.
    """
    counts = np.array(positions(items), float)
    expected, covariance = np.zeros_like(counts), np.zeros((len(counts), len(counts)))
    for k, number in Counter(len(item.options) for item in items).items():
        expected[:k] += number / k
        covariance[:k, :k] += number * (np.eye(k) / k - 1 / k**2)
    off = counts - expected
    return float(chi2.sf(off @ np.linalg.pinv(covariance, hermitian=True) @ off, len(counts) - 1)) if len(counts) > 1 else 1.0


@dataclass(frozen=True, slots=True)
class Order:
    """How sorted a sequence of labels is: neighbours that are alike, against those of a random order."""

    alike: int
    expected: float
    share: float
    """0: as in a random order, 1: each label in one block. Below 0: they alternate."""
    z: float
    """By the standard deviation over all orders (the runs test of Wald and Wolfowitz for several labels)."""
    common: Hashable
    """The most frequent label of the first quarter,"""
    early: float
    """its share there"""
    overall: float
    """and in the whole."""


_ITEMS_A_CLASS = 4  # with fewer on average, labels are no classes, and a block of two says nothing
_OTHERS = 8  # items of another label than the most common: fewer stand side by side by chance often enough


def order(labels: Sequence[Hashable]) -> Order | None:
    """None where there is nothing to sort: hardly more than one label, or labels that hardly repeat."""
    n, sizes = len(labels), np.array(list(Counter(labels).values()), float)
    if not n or n - sizes.max() < _OTHERS or n < _ITEMS_A_CLASS * len(sizes):
        return None
    squares, cubes = float((sizes**2).sum()), float((sizes**3).sum())
    expected = squares / n - 1
    variance = (squares * (squares + n * (n + 1)) - 2 * n * cubes - n**3) / (n**2 * (n - 1))
    alike = sum(one == other for one, other in pairwise(labels))
    share, z = (alike - expected) / (n - len(sizes) - expected), (alike - expected) / variance**0.5
    (common, times), *_ = Counter(labels[: n // 4]).most_common(1)
    return Order(alike, expected, share, z, common, times / (n // 4), labels.count(common) / n)
