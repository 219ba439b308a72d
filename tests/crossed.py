"""Simulated differences with effects of clips and of seeds, for the tests of statistics."""

import numpy as np


def noisy(random, clips, per_clip, seeds, of_clip=0.1, of_seed=0.02, rest=0.3):
    """(items, seeds) differences with effects of clips and seeds, and the items' clips."""
    numbers = np.repeat(np.arange(clips), per_clip)
    values = of_clip * random.normal(size=(clips, 1))[numbers] + of_seed * random.normal(size=(1, seeds))
    return values + rest * random.normal(size=(len(numbers), seeds)), numbers
