"""Define a benchmark of your own in one file: how often does a square blink?

    qtablate sweep --bench custom:examples/counting_bench.py --tokens 0,32

qtablate calls only `benchmark`. The object that it returns has items (questions with options and the index of the correct one),
clip names, a key per clip (of whatever its pixels depend on) and the clips' frames, at the requested number and size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from qtablate.datatypes import Frames, Item, Problem
from qtablate.seeds import Rng

OPTIONS = ("one", "two", "three")
SCHEMA = 1
"""Raise it when the drawing changes, so that cached features are computed again."""


@dataclass(frozen=True)
class Blinks:
    """Clips in which a white square blinks one to three times on a gray background."""

    num_frames: int
    image_size: int
    """Height and width in pixels."""
    num_items: int
    problems: Sequence[Problem] = ()

    @property
    def fingerprint(self) -> str:
        """Change with everything that questions and pixels depend on."""
        return f"{SCHEMA}/{self.num_frames}/{self.image_size}/{self.num_items}"

    @cached_property
    def items(self) -> list[Item]:
        """One question per clip; the answers alternate."""
        question = "How often does the square blink?"
        return [Item(f"blinks-{n:04d}", "blinks", f"blink {n}", question, OPTIONS, answer=n % 3) for n in range(self.num_items)]

    def clips(self) -> list[str]:
        """Return the names of all clips."""
        return [item.clip for item in self.items]

    def key(self, clip: str) -> str:
        """Identify a clip's pixels."""
        return f"{SCHEMA}/{clip}/{self.num_frames}/{self.image_size}"

    def frames(self, clip: str) -> Frames:
        """Draw a clip: (num_frames, image_size, image_size, 3) RGB bytes."""
        number = int(clip.split()[1])
        rng, pixels = Rng("blinks", number), np.full((self.num_frames, self.image_size, self.image_size, 3), 128, np.uint8)
        # every second frame at most is lit, so that each lit frame is a blink of its own
        start = rng.randrange(2)
        lit = rng.sample(range(start, self.num_frames, 2), number % 3 + 1)
        edge, corner = self.image_size // 4, rng.randrange(self.image_size * 3 // 4)
        for frame in lit:
            pixels[frame, corner : corner + edge, corner : corner + edge] = 255
        return pixels


def benchmark(frames: int, image_size: int, items_per_task: int | None) -> Blinks:
    """Return the benchmark for a model's number of frames and image size; 60 items unless the user asks for fewer."""
    return Blinks(frames, image_size, items_per_task or 60)
