"""Clips with their time taken away or turned: what a model that uses time must do worse on.

A new alteration is one function in PERTURBATIONS. Images, which have one frame, stay as they are.
"""

from collections.abc import Callable

import numpy as np

from qtablate.controls import MIDDLE, REVERSED, SHUFFLED
from qtablate.datatypes import Frames
from qtablate.seeds import Rng


def _middle(frames: Frames, rng: Rng) -> Frames:
    """The middle frame throughout: as many visual features as ever, and no motion."""
    return np.repeat(frames[len(frames) // 2, None], len(frames), axis=0)


def _shuffled(frames: Frames, rng: Rng) -> Frames:
    """In an order that is neither the clip's nor its reverse, where there is another."""
    straight = list(range(len(frames)))
    while True:
        order = rng.shuffled(straight)
        if len(frames) < 3 or order not in (straight, straight[::-1]):
            return frames[order]


def _reversed(frames: Frames, rng: Rng) -> Frames:
    return frames[::-1]


PERTURBATIONS: dict[str, Callable[[Frames, Rng], Frames]] = {MIDDLE: _middle, SHUFFLED: _shuffled, REVERSED: _reversed}


def perturb(control: str, clip: str, frames: Frames) -> Frames:
    """A clip under a control, the same in every run."""
    return PERTURBATIONS[control](frames, Rng("control", control, clip))
