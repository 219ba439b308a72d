"""Pixels of a clip -> what the vision tower takes."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from qtablate.datatypes import Frames

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, as VideoChat2's evaluation uses (mvbench.ipynb)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def normalize_frames(
    clips: Sequence[Frames], mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> Tensor:
    """Normalize pixels per channel: B clips of one shape (T, H, W, 3) uint8 -> (B, T, 3, H, W) float32.

    Args:
        mean: of each channel, for pixels in 0 to 1; None: CLIP's.
        std: of each channel; None: CLIP's.
    """
    x = torch.from_numpy(np.stack(clips)).float().div_(255).permute(0, 1, 4, 2, 3)
    return (x - torch.tensor(mean or CLIP_MEAN).view(3, 1, 1)) / torch.tensor(std or CLIP_STD).view(3, 1, 1)
