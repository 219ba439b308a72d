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


class Rng:
    """Random numbers that stay the same across Python versions.

    All draws are built on `random.Random.random()`, the one method whose sequence Python promises to keep.
    """

    def __init__(self, *parts: object) -> None:
        """Start the stream that `parts` name, as in `derive`."""
        self._random = random.Random(derive(*parts)).random

    def random(self) -> float:
        """Draw a float uniformly from [0, 1)."""
        return self._random()

    def randrange(self, n: int) -> int:
        """Draw an integer uniformly from 0 .. n-1."""
        return int(self._random() * n)

    def bernoulli(self, probability: float) -> bool:
        """Draw True with this probability."""
        return self._random() < probability

    def choice(self, options: Sequence[T]) -> T:
        """Draw one element uniformly."""
        return options[int(self._random() * len(options))]

    def shuffled(self, options: Sequence[T]) -> list[T]:
        """Return a new list of the elements in random order (Fisher-Yates)."""
        out = list(options)
        for last in range(len(out) - 1, 0, -1):
            other = self.randrange(last + 1)
            out[last], out[other] = out[other], out[last]
        return out

    def sample(self, options: Sequence[T], n: int) -> list[T]:
        """Draw n elements without replacement, in random order."""
        return self.shuffled(options)[:n]
