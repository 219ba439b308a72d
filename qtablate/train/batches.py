"""Micro-batches: samples, their token ids and labels, and their frozen visual features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qtablate.datatypes import Sample
from qtablate.model.encode import ConversationEncoder, QFormerInputs, TextBatch, collate
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.types import IGNORE
from qtablate.train.accumulate import token_loss_sum


@dataclass(frozen=True, slots=True)
class MicroBatch:
    samples: Sequence[Sample]
    text: TextBatch
    features: Sequence[tuple[Tensor, Tensor]]
    """For each size of clip: the rows that have it, and their features (rows, N, D)."""

    @property
    def supervised_tokens(self) -> int:
        return int((self.text.labels[:, 1:] != IGNORE).sum())


def stack_by_shape(features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Stack features of equal shape: [(rows, stacked)]. Images and videos have different numbers of patches."""
    groups: dict[torch.Size, list[int]] = {}
    for row, one in enumerate(features):
        groups.setdefault(one.shape, []).append(row)
    return [(torch.tensor(rows), torch.stack([features[row] for row in rows])) for rows in groups.values()]


def make_micro_batch(
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    encoder: ConversationEncoder,
    tokens: int | Callable[[Tensor], int],
    longest: int,
) -> MicroBatch:
    """`tokens` tells how many visual tokens a clip's features (N, D) become, where it is not the same number for all. A rank's
    share of a micro-batch may hold no sample."""
    features = [lookup(sample.clip) for sample in samples]
    counts = [tokens if isinstance(tokens, int) else tokens(one) for one in features]
    return MicroBatch(samples, collate(encoder, samples, counts, longest), stack_by_shape(features))


def supervised_tokens(sample: Sample, encoder: ConversationEncoder, longest: int) -> int:
    """Of a sample's conversation, which no visual token changes."""
    return int((collate(encoder, [sample], [1], longest).labels[:, 1:] != IGNORE).sum())


def visual_tokens(
    model: VideoLM, groups: Sequence[tuple[Tensor, Tensor]], queries: Tensor | None = None, text: QFormerInputs | None = None
) -> list[Tensor]:
    """(Q, D) visual tokens of each row in order, whatever their media."""
    out: dict[int, Tensor] = {}
    for rows, features in groups:
        own = QFormerInputs(text.input_ids[rows], text.attention_mask[rows]) if text else None
        out.update(zip(rows.tolist(), model.visual_tokens(features.to(model.device), queries, own), strict=True))
    return [out[row] for row in range(len(out))]


def loss_sum(model: VideoLM, micro: MicroBatch) -> Tensor:
    """Summed token loss of a micro-batch, with its graph."""
    return text_loss_sum(model, micro.text, visual_tokens(model, micro.features, text=micro.text.qformer_inputs))


def text_loss_sum(model: VideoLM, text: TextBatch, visual: Sequence[Tensor]) -> Tensor:
    """Summed next-token loss of conversations that see these visual tokens; each place tells the one behind it."""
    labels = text.labels.to(model.device)
    embeds = model.embed(text.input_ids, visual, text.visual_mask)
    if text.first_embedding_value is not None:
        embeds = torch.cat([torch.full_like(embeds[:, :1], text.first_embedding_value), embeds[:, 1:]], dim=1)
    told = labels[:, 1:]
    wanted = told != IGNORE
    logits, _ = model.logits_at(embeds[:, :-1], wanted, use_cache=False)
    return token_loss_sum(logits, told[wanted])
