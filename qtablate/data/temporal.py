"""Temporal perturbations: clips whose frame order carries no or false information. A model that uses time does worse on them.

A new perturbation is one function in PERTURBATIONS. Images, which have one frame, are unchanged by all of them.
"""

from collections.abc import Callable

import numpy as np

from qtablate.datatypes import Frames
from qtablate.seeds import Rng

MIDDLE, SHUFFLED, REVERSED = "middle", "shuffled", "reversed"


def _middle(frames: Frames, rng: Rng) -> Frames:
    """Repeat the middle frame: as many visual features as before, without motion."""
    return np.repeat(frames[len(frames) // 2, None], len(frames), axis=0)


def _shuffled(frames: Frames, rng: Rng) -> Frames:
    """Shuffle the frames; where there are at least 3, into neither their own order nor its reverse."""
    identity = list(range(len(frames)))
    while True:
        order = rng.shuffled(identity)
        if len(frames) < 3 or order not in (identity, identity[::-1]):
            return frames[order]


def _reversed(frames: Frames, rng: Rng) -> Frames:
    """Play the clip backwards."""
    return frames[::-1]


PERTURBATIONS: dict[str, Callable[[Frames, Rng], Frames]] = {MIDDLE: _middle, SHUFFLED: _shuffled, REVERSED: _reversed}
"""By name of the evaluation control."""


def perturb(control: str, clip: str, frames: Frames) -> Frames:
    """Apply a perturbation to a clip's frames (T, H, W, 3), the same in every run.

    Args:
        control: a key of PERTURBATIONS.
        clip: the clip's name, which seeds the random order.
    """
    return PERTURBATIONS[control](frames, Rng("control", control, clip))
