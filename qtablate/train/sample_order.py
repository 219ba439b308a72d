"""Which samples a run trains on and in which order: decided by sample, so that micro-batch and window sizes change nothing."""

import bisect
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from types import MappingProxyType

from qtablate.datatypes import IMAGE, VIDEO, Sample
from qtablate.errors import DataError
from qtablate.seeds import Rng

EQUAL_WEIGHTS: Mapping[str, float] = MappingProxyType({})
"""No weights: every sample is drawn equally often, whatever its source."""


@dataclass(frozen=True, slots=True)
class SampleOrder:
    """What decides the order of a run's samples, beside the samples themselves."""

    seed: int
    mixing: str
    """`mixed`: images stand evenly among the videos, so that each micro-batch of at least 1 / image_ratio samples holds both.
    `random`: blocks of one medium, in random order (as VideoChat2's MetaLoader does with micro-batches). `interleaved`: such
    blocks, evenly: any A blocks in a row hold the stated share, to within one block, and exactly where A times the share is a
    whole number."""
    image_ratio: float
    """Share of images among the samples."""
    block: int
    """Samples of one medium in a row, where mixing is `random` or `interleaved`."""


def media_order(order: SampleOrder, count: int) -> list[str]:
    """Return the medium of each of `count` samples.

    Every mixing holds the same number of images when `count` is a whole number of blocks and that of images too.
    """
    ratio = Fraction(repr(order.image_ratio))  # the fraction that was meant: 0.29 of 100 is 29, which a float makes 28
    if order.mixing == "mixed":
        return _evenly(count, ratio)
    blocks = math.ceil(count / order.block)
    labels = _evenly(blocks, ratio)
    if order.mixing == "random":
        images = round(blocks * ratio)
        labels = Rng(order.seed, "media").shuffled([IMAGE] * images + [VIDEO] * (blocks - images))
    return [label for label in labels for _ in range(order.block)][:count]


def _evenly(count: int, ratio: Fraction) -> list[str]:
    return [IMAGE if math.floor((n + 1) * ratio) > math.floor(n * ratio) else VIDEO for n in range(count)]


def draw_samples(
    order: SampleOrder,
    samples: Sequence[Sample],
    weights: Mapping[str, float],
    count: int,
    first: int | None = None,
) -> list[Sample]:
    """Return the samples of a run in order.

    Args:
        order: what decides the order.
        samples: all training samples.
        weights: how often each source is drawn from (see order_samples).
        count: samples that the run trains on.
        first: return only so many of them; None: all.
    """
    return order_samples(samples, media_order(order, count)[:first], order.seed, weights)


def draw_token_budget(
    order: SampleOrder,
    samples: Sequence[Sample],
    weights: Mapping[str, float],
    tokens: int,
    supervised_tokens: Callable[[Sample], int],
    window: int,
    count: int,
) -> list[Sample]:
    """Return the first samples in order that together reach a number of supervised tokens.

    Args:
        order: what decides the order.
        samples: all training samples.
        weights: how often each source is drawn from (see order_samples).
        tokens: the budget.
        supervised_tokens: counts those of a sample.
        window: samples of a whole window; the budget must reach that far.
        count: samples that the order is made for at first; doubled until they are enough.

    Raises:
        DataError: no sample holds a supervised token, or one window is never whole.
    """
    while True:
        drawn = draw_samples(order, samples, weights, count)
        counts = {sample: supervised_tokens(sample) for sample in dict.fromkeys(drawn)}
        cumulative = list(itertools.accumulate(counts[sample] for sample in drawn))
        if cumulative[-1] == 0:
            raise DataError("the training data holds no supervised token: no budget of them can be reached")
        if cumulative[-1] >= tokens:
            needed = bisect.bisect_left(cumulative, tokens) + 1
            if needed < window:
                raise DataError(
                    f"--budget tokens {tokens} is reached by {needed} samples, less than one window of {window}: no optimizer "
                    "step would be whole; raise it"
                )
            return drawn[:needed]
        count *= 2


def order_samples(
    samples: Sequence[Sample], media: Sequence[str], seed: int, weights: Mapping[str, float] = EQUAL_WEIGHTS
) -> list[Sample]:
    """Return a sample for each place of a sequence of media.

    Each medium is visited in its own random order, over again in a new one when all of it was visited. A sample with
    `shuffle_pairs` has its questions and answers in another order at each visit.

    Args:
        samples: all training samples.
        media: the medium of each place.
        seed: of all random orders.
        weights: by source. Each medium is drawn from its sources in these shares, whichever is furthest behind first; a source
            without a weight counts as many as it has samples of that medium. Empty: sources are not told apart.

    Raises:
        DataError: there is no sample of a medium.
    """
    pools: dict[str, dict[str, list[Sample]]] = {medium: {} for medium in media}
    for sample in samples:
        if sample.medium in pools:
            pools[sample.medium].setdefault(sample.source if weights else "", []).append(sample)
    queues: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    epochs: Counter[tuple[str, str]] = Counter()
    taken: Counter[tuple[str, str]] = Counter()
    out = []
    for medium in media:
        pool = pools[medium]
        if not pool:
            raise DataError(f"the training data holds no usable {medium}: every clip of that medium was left out")
        shares = {source: weights.get(source, float(len(members))) for source, members in pool.items()}
        key = medium, min(shares, key=lambda source: (taken[medium, source] + 1) / shares[source])
        source = key[1]
        taken[key] += 1
        if not queues[key]:
            stream = (medium, source) if source else (medium,)
            queues[key] = Rng(seed, "order", *stream, epochs[key]).shuffled(pool[source])[::-1]
            epochs[key] += 1
        out.append(_with_pairs_shuffled(queues[key].pop(), seed, epochs[key]))
    return out


def _with_pairs_shuffled(sample: Sample, seed: int, visit: int) -> Sample:
    if not sample.shuffle_pairs:
        return sample
    return replace(sample, pairs=tuple(Rng(seed, "pairs", sample.id, visit).shuffled(sample.pairs)))
