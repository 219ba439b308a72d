"""Micro-batches: samples, their token ids and labels, and their frozen visual features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qtablate.bench.items import IMAGE, Sample
from qtablate.model.encode import IGNORE, Batch, Encoder, batch
from qtablate.model.videochat2 import VideoChat2Model
from qtablate.train.accumulate import token_loss_sum


@dataclass(frozen=True, slots=True)
class MicroBatch:
    samples: Sequence[Sample]
    text: Batch
    features: Sequence[tuple[Tensor, Tensor]]
    """For each size of clip: the rows that have it, and their features (rows, N, D)."""

    @property
    def supervised_tokens(self) -> int:
        return int((self.text.labels[:, 1:] != IGNORE).sum())

    @property
    def image_fraction(self) -> float:
        return sum(sample.medium == IMAGE for sample in self.samples) / len(self.samples)


def by_shape(features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Stack features of equal shape: [(rows, stacked)]. Images and videos have different numbers of patches."""
    groups: dict[torch.Size, list[int]] = {}
    for row, one in enumerate(features):
        groups.setdefault(one.shape, []).append(row)
    return [(torch.tensor(rows), torch.stack([features[row] for row in rows])) for rows in groups.values()]


def micro_batch(
    samples: Sequence[Sample], lookup: Callable[[str], Tensor], encoder: Encoder, visual_tokens: int, longest: int
) -> MicroBatch:
    text = batch(encoder, samples, visual_tokens, longest)
    return MicroBatch(samples, text, by_shape([lookup(sample.clip) for sample in samples]))


def visual_tokens(model: VideoChat2Model, groups: Sequence[tuple[Tensor, Tensor]], queries: Tensor | None = None) -> Tensor:
    """(B, Q, D) visual tokens in the order of the rows, whatever their media."""
    tokens = torch.cat([model.visual_tokens(features, queries) for _, features in groups])
    return tokens[torch.argsort(torch.cat([rows for rows, _ in groups]))] if len(groups) > 1 else tokens


def loss_sum(model: VideoChat2Model, micro: MicroBatch) -> Tensor:
    """Summed token loss of a micro-batch, with its graph."""
    return text_loss_sum(model, micro.text, visual_tokens(model, micro.features))


def text_loss_sum(model: VideoChat2Model, text: Batch, visual: Tensor) -> Tensor:
    """Summed next-token loss of conversations that see these visual tokens; each place tells the one behind it."""
    embeds = model.embed(text.input_ids, visual, text.visual_at)
    told = text.labels[:, 1:]
    wanted = told != IGNORE
    logits, _ = model.logits_at(embeds[:, :-1], wanted, use_cache=False)
    return token_loss_sum(logits, told[wanted])
