"""Token ablation: accuracy with some of a trained model's visual tokens taken away. Nothing is trained again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from qtablate.datatypes import Item
from qtablate.evaluate.score import score
from qtablate.model.encode import ConversationEncoder
from qtablate.model.video_lm import VideoLM
from qtablate.statistics.clustered import ClusteredMean, clustered_mean

ITEMS_PER_TASK = 25
"""Items of each task that are scored under every ablation."""
MAX_GROUPS = 4
"""Groups of extra tokens at most, which are replaced by their means one group at a time."""


@dataclass(frozen=True, slots=True)
class Ablation:
    """What is taken away from the visual tokens."""

    kind: Literal["first", "mean"]
    """`first`: of the extra tokens only these are kept; `mean`: these tokens are replaced by their means over clips."""
    start: int
    """First of these tokens, counted from the first base token."""
    end: int
    """One after the last of these tokens."""


@dataclass(frozen=True, slots=True)
class AblationResult:
    """Accuracy under an ablation."""

    ablation: Ablation
    accuracy: ClusteredMean
    change: ClusteredMean
    """Against the model with all tokens, paired by item."""


def sample_per_task(items: Sequence[Item], per_task: int = ITEMS_PER_TASK) -> list[Item]:
    """Return the first items of every task, in order."""
    taken: dict[str, int] = {}
    sampled = []
    for item in items:
        taken[item.task] = taken.get(item.task, 0) + 1
        if taken[item.task] <= per_task:
            sampled.append(item)
    return sampled


def list_ablations(base: int, extra: int) -> list[Ablation]:
    """Return all ablations of a model with so many base and extra tokens.

    The first 0, 1, 2, 4, ... extra tokens are kept; the base tokens, and each group of extra ones, are replaced by their means.
    """
    kept = [0, *(1 << power for power in range(extra.bit_length()) if 1 << power < extra)] if extra else []
    groups = min(MAX_GROUPS, extra)
    edges = sorted({base + round(extra * n / groups) for n in range(groups + 1)}) if extra else []
    return [
        *(Ablation("first", base, base + count) for count in kept),
        *(Ablation("mean", start, end) for start, end in [(0, base), *pairwise(edges)]),
    ]


@contextmanager
def keep_first_tokens(model: VideoLM, count: int) -> Iterator[None]:
    """Keep only the first `count` extra tokens until the block ends."""
    config, table = model.config, model.extra_query_tokens.data
    extra = config.extra_num_query_tokens
    config.extra_num_query_tokens, model.extra_query_tokens.data = count, table[:, :count]
    try:
        yield
    finally:
        config.extra_num_query_tokens, model.extra_query_tokens.data = extra, table


@contextmanager
def replace_by_mean(model: VideoLM, start: int, end: int, mean: Tensor) -> Iterator[None]:
    """Replace the visual tokens start .. end - 1 by those of `mean`, (Q, D), for every clip until the block ends."""

    def replace(module: torch.nn.Module, arguments: object, visual: Tensor) -> Tensor:
        visual = visual.clone()
        visual[:, start:end] = mean[start:end].to(visual.dtype)
        return visual

    handle = model.projection.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def ablate_tokens(
    model: VideoLM,
    encoder: ConversationEncoder,
    items: Sequence[Item],
    features: Mapping[str, Tensor],
    report: Callable[[int, int], None],
) -> list[AblationResult]:
    """Score the items under every ablation of the model's visual tokens.

    Args:
        model: trained, set to eval mode.
        encoder: of texts.
        items: a sample (sample_per_task).
        features: frozen features (N, D) by clip.
        report: called with (ablations done, ablations in all).
    """
    clusters = [item.cluster for item in items]

    def score_correct() -> list[float]:
        scores = {one.item.id: one for group in score(model, encoder, items, features.__getitem__) for one in group}
        return [float(scores[item.id].predicted == item.answer) for item in items]

    mean = _mean_tokens(model, [features[clip] for clip in dict.fromkeys(item.clip for item in items)])
    with_all = score_correct()
    ablations = list_ablations(model.config.num_query_tokens, model.config.extra_num_query_tokens)
    results = []
    for number, ablation in enumerate(ablations, start=1):
        start, end = ablation.start, ablation.end
        keeps = ablation.kind == "first"
        with keep_first_tokens(model, end - start) if keeps else replace_by_mean(model, start, end, mean):
            correct = score_correct()
        change = clustered_mean([a - b for a, b in zip(correct, with_all, strict=True)], clusters)
        results.append(AblationResult(ablation, clustered_mean(correct, clusters), change))
        report(number, len(ablations))
    return results


def _mean_tokens(model: VideoLM, features: Sequence[Tensor]) -> Tensor:
    """Return the mean over clips of each visual token: (Q, D)."""
    by_shape: dict[torch.Size, list[Tensor]] = {}
    for clip in features:
        by_shape.setdefault(clip.shape, []).append(clip)
    with torch.inference_mode():
        sums = [model.visual_tokens(torch.stack(clips).to(model.device)).sum(0) for clips in by_shape.values()]
        return torch.stack(sums).sum(0) / len(features)
