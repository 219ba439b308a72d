"""Random streams: every one is derived from (seed, purpose), never from the condition.

Cells of one seed therefore share initial values, sample order and items, so that they differ by their factor alone.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def derive(*parts: object) -> int:
    """A 63-bit seed from any printable parts, the same on every machine and in every process."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


class Dice:
    """Draws that stay the same across Python versions: built on `random.random()`, the one method Python promises to keep."""

    def __init__(self, *parts: object) -> None:
        self._random = random.Random(derive(*parts)).random

    def below(self, n: int) -> int:
        """A whole number in 0 .. n-1."""
        return int(self._random() * n)

    def share(self) -> float:
        """A number in [0, 1)."""
        return self._random()

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """A new list in random order (Fisher-Yates)."""
        out = list(options)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        return self.shuffled(options)[:n]
