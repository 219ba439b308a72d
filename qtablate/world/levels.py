"""Difficulty levels of the procedural world."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Level:
    """Difficulty of a scene."""

    objects: tuple[int, int]
    """Smallest and largest number of objects in scenarios without a fixed number."""
    swaps: tuple[int, int]
    """Smallest and largest number of swaps of the cups that hide a coin."""
    crowd: int
    """Largest number of objects in scenes with one odd object."""
    aligned: bool = False
    """Whether objects start on the centers of the encoder's patches and have one size."""


LEVELS = {
    "easy": Level((2, 3), (1, 1), 3),
    "normal": Level((2, 4), (1, 2), 4),
    "hard": Level((3, 5), (2, 2), 5),
}
"""Levels of the benchmark and of the training data."""
CURRICULUM = replace(LEVELS["normal"], aligned=True)
"""First level of the vision encoder's pretraining. One frame often shows how an object moves, so no benchmark uses it."""
