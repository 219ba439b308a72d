"""A benchmark of one's own: how often does a square blink?

    qtablate sweep --bench custom:examples/counting_bench.py --tokens 0,32

`benchmark` is all that qtablate looks for. What it returns has items (questions with options and an index of the right one),
clips by name, a key for each (whatever its pixels depend on) and their frames, at the size and length that are asked for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qtablate.datatypes import Frames, Item, Problem
from qtablate.seeds import Rng

OPTIONS = ("one", "two", "three")
SCHEMA = 1  # raise it when the drawing changes


@dataclass(frozen=True)
class Blinks:
    count: int
    side: int
    number: int
    problems: Sequence[Problem] = ()

    @property
    def fingerprint(self) -> str:
        return f"{SCHEMA}/{self.count}/{self.side}/{self.number}"

    @cached_property
    def items(self) -> list[Item]:
        answers = [n % 3 for n in range(self.number)]
        return [
            Item(f"blinks-{n:04d}", "blinks", f"blink {n}", "How often does the square blink?", OPTIONS, answers[n])
            for n in range(self.number)
        ]

    def clips(self) -> list[str]:
        return [item.clip for item in self.items]

    def key(self, clip: str) -> str:
        return f"{SCHEMA}/{clip}/{self.count}/{self.side}"

    def frames(self, clip: str) -> Frames:
        number = int(clip.split()[1])
        rng, shown = Rng("blinks", number), np.full((self.count, self.side, self.side, 3), 128, np.uint8)
        # not the first frame, and never two in a row: each is a blink of its own
        start = rng.randrange(2)
        lit = rng.sample(range(start, self.count, 2), number % 3 + 1)
        edge, place = self.side // 4, rng.randrange(self.side * 3 // 4)
        for frame in lit:
            shown[frame, place : place + edge, place : place + edge] = 255
        return shown


def benchmark(frames: int, side: int, items_a_task: int | None) -> Blinks:
    return Blinks(frames, side, items_a_task or 60)
