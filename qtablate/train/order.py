"""Which samples a run sees and in which order: decided by sample, so that micro-batch and window sizes change nothing."""

import math
from collections.abc import Sequence

from qtablate.bench.items import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.grid import exact
from qtablate.seeds import Dice


def media(budget: int, image_share: float, mixing: str, block: int, seed: int) -> list[str]:
    """The medium of each of `budget` samples.

    `multi`: images stand evenly among the videos, so that each micro-batch of at least 1 / image_share samples holds
    both. `single`: blocks of `block` samples of one medium, in random order (as the reference's MetaLoader does with
    micro-batches). Both hold the same number of images when `budget` is a whole number of blocks and that of images too.
    """
    share = exact(image_share)
    if mixing == "multi":
        return [IMAGE if math.floor((n + 1) * share) > math.floor(n * share) else VIDEO for n in range(budget)]
    blocks = math.ceil(budget / block)
    of_images = round(blocks * share)
    labels = Dice(seed, "media").shuffled([IMAGE] * of_images + [VIDEO] * (blocks - of_images))
    return [label for label in labels for _ in range(block)][:budget]


def order(samples: Sequence[Sample], plan: Sequence[str], seed: int) -> list[Sample]:
    """Samples for a plan of media: each medium in its own random order, over again when all were seen."""
    pools = {medium: [sample for sample in samples if sample.medium == medium] for medium in set(plan)}
    queues: dict[str, list[Sample]] = {medium: [] for medium in pools}
    epochs = dict.fromkeys(pools, 0)
    out = []
    for medium in plan:
        if not pools[medium]:
            raise DataError(f"the training data holds no usable {medium}: every clip of that medium was left out")
        if not queues[medium]:
            queues[medium] = Dice(seed, "order", medium, epochs[medium]).shuffled(pools[medium])[::-1]
            epochs[medium] += 1
        out.append(queues[medium].pop())
    return out
