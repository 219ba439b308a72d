"""Clips with their time taken away or turned."""

import numpy as np
import pytest

from qtablate.controls import MIDDLE, REVERSED, SHUFFLED
from qtablate.data.temporal import PERTURBATIONS, perturb


def clip(frames: int) -> np.ndarray:
    """Each frame is its number."""
    return np.broadcast_to(np.arange(frames, dtype=np.uint8)[:, None, None, None], (frames, 2, 2, 3))


def order(control: str, frames: int, name: str = "a") -> list[int]:
    return perturb(control, name, clip(frames))[:, 0, 0, 0].tolist()


def test_what_is_shown():
    assert order(MIDDLE, 8) == [4] * 8
    assert order(REVERSED, 4) == [3, 2, 1, 0]
    assert sorted(order(SHUFFLED, 8)) == list(range(8))


def test_a_shuffled_clip_is_neither_the_clip_nor_its_reverse_and_always_the_same():
    orders = [order(SHUFFLED, 3, str(number)) for number in range(50)]
    assert [0, 1, 2] not in orders
    assert [2, 1, 0] not in orders
    assert len({tuple(one) for one in orders}) == 4  # all others occur
    assert orders == [order(SHUFFLED, 3, str(number)) for number in range(50)]


@pytest.mark.parametrize("control", PERTURBATIONS)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_shape_and_kind_stay(control, frames):
    out = perturb(control, "a", clip(frames))
    assert (out.shape, out.dtype) == (clip(frames).shape, np.uint8)
    if frames == 1:
        assert (out == clip(1)).all()  # images
