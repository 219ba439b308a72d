"""Which samples a run sees and in which order: decided by sample, so that micro-batch and window sizes change nothing."""

import bisect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from types import MappingProxyType

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.grid import Cell, exact
from qtablate.seeds import Rng


def media(budget: int, image_share: float, mixing: str, block: int, seed: int) -> list[str]:
    """The medium of each of `budget` samples.

    `mixed`: images stand evenly among the videos, so that each micro-batch of at least 1 / image_share samples holds
    both. `random`: blocks of `block` samples of one medium, in random order (as the reference's MetaLoader does with
    micro-batches). `interleaved`: such blocks, evenly: any A blocks in a row hold the stated share, to within one block, and
    exactly where A times the share is a whole number. All hold the same number of images when `budget` is a whole number of
    blocks and that of images too.
    """
    share = exact(image_share)
    if mixing == "mixed":
        return _evenly(budget, share)
    blocks = math.ceil(budget / block)
    labels = _evenly(blocks, share)
    if mixing == "random":
        of_images = round(blocks * share)
        labels = Rng(seed, "media").shuffled([IMAGE] * of_images + [VIDEO] * (blocks - of_images))
    return [label for label in labels for _ in range(block)][:budget]


def _evenly(count: int, share: Fraction) -> list[str]:
    return [IMAGE if math.floor((n + 1) * share) > math.floor(n * share) else VIDEO for n in range(count)]


def drawn(
    cell: Cell, samples: Sequence[Sample], weights: Mapping[str, float], of: int, first: int | None = None
) -> list[Sample]:
    """The order of a cell that trains on `of` samples, or its first ones."""
    plan = media(of, cell.recipe.image_share, cell.condition.mixing, cell.media_block, cell.seed)
    return order(samples, plan[:first], cell.seed, weights)


def seen_by(
    cell: Cell, samples: Sequence[Sample], weights: Mapping[str, float], supervised: Callable[[Sample], int]
) -> list[Sample]:
    """What a cell trains on, in its order. `supervised` counts a sample's supervised tokens; it is asked where tokens are held:
    then the first samples that reach the budget together. Raises DataError where none can."""
    recipe = cell.recipe
    budget = cell.samples or recipe.samples
    while True:
        found = drawn(cell, samples, weights, budget)
        if recipe.budget != "tokens":
            return found
        counts = {sample: supervised(sample) for sample in dict.fromkeys(found)}
        reached = list(itertools.accumulate(counts[sample] for sample in found))
        if reached[-1] == 0:
            raise DataError("the training data holds no supervised token: no budget of them can be reached")
        if reached[-1] >= recipe.budget_size:
            enough = bisect.bisect_left(reached, recipe.budget_size) + 1
            if enough < cell.condition.effective_batch_size:
                raise DataError(
                    f"--budget tokens {recipe.budget_size} is reached by {enough} samples, less than one window of "
                    f"{cell.condition.effective_batch_size}: no optimizer step would be whole; raise it"
                )
            return found[:enough]
        budget *= 2


def order(
    samples: Sequence[Sample], plan: Sequence[str], seed: int, weights: Mapping[str, float] = MappingProxyType({})
) -> list[Sample]:
    """Samples for a plan of media: each medium in its own random order, over again when all were seen.

    Where sources have weights, each medium is drawn from its sources in these shares, whichever is furthest behind first;
    a source without a weight counts as many as it has samples of that medium.

    A sample that says so (`shuffle_pairs`) tells its questions and answers in another order at each visit.
    """
    pools: dict[str, dict[str, list[Sample]]] = {medium: {} for medium in plan}
    for sample in samples:
        if sample.medium in pools:
            pools[sample.medium].setdefault(sample.source if weights else "", []).append(sample)
    queues: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    epochs: Counter[tuple[str, str]] = Counter()
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for medium in plan:
        pool = pools[medium]
        if not pool:
            raise DataError(f"the training data holds no usable {medium}: every clip of that medium was left out")
        share = {source: weights.get(source, float(len(some))) for source, some in pool.items()}
        source = min(share, key=lambda one: (taken[medium, one] + 1) / share[one])
        key = (medium, source)
        taken[key] += 1
        if not queues[key]:
            stream = (medium, source) if source else (medium,)
            queues[key] = Rng(seed, "order", *stream, epochs[key]).shuffled(pool[source])[::-1]
            epochs[key] += 1
        out.append(_visited(queues[key].pop(), seed, epochs[key]))
    return out


def _visited(sample: Sample, seed: int, visit: int) -> Sample:
    if not sample.shuffle_pairs:
        return sample
    return replace(sample, pairs=tuple(Rng(seed, "pairs", sample.id, visit).shuffled(sample.pairs)))
