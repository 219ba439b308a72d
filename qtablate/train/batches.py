"""Micro-batches: samples, their token ids and labels, their frozen visual features, and their loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from qtablate.datatypes import Sample
from qtablate.model.encode import ConversationEncoder, QFormerInputs, TextBatch, collate
from qtablate.model.packing import can_pack, packed_arguments
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.types import IGNORE
from qtablate.train.accumulate import token_loss_sum


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Some samples, ready for a forward pass."""

    samples: Sequence[Sample]
    text: TextBatch
    features: Sequence[tuple[Tensor, Tensor]]
    """(rows, (rows, N, D) features) for each shape of features."""

    @property
    def supervised_tokens(self) -> int:
        """Number of tokens that the loss is summed over; the first of a sequence has nothing before it to be predicted from."""
        return int((self.text.labels[:, 1:] != IGNORE).sum())


def stack_by_shape(features: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Stack features of equal shape: [(rows, stacked)]. Images and videos have different numbers of patches."""
    rows_of: dict[torch.Size, list[int]] = {}
    for row, clip in enumerate(features):
        rows_of.setdefault(clip.shape, []).append(row)
    return [(torch.tensor(rows), torch.stack([features[row] for row in rows])) for rows in rows_of.values()]


def make_micro_batch(
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    encoder: ConversationEncoder,
    tokens: int | Callable[[Tensor], int],
    max_text_tokens: int,
) -> MicroBatch:
    """Build a micro-batch, or a rank's share of one, which may hold no sample.

    Args:
        samples: its samples.
        lookup: gives a clip's frozen features (N, D).
        encoder: of texts.
        tokens: number of visual tokens of every clip, or a function that gives it for a clip's features.
        max_text_tokens: text tokens of a sequence at most; the rest is cut off.
    """
    features = [lookup(sample.clip) for sample in samples]
    counts = [tokens if isinstance(tokens, int) else tokens(clip) for clip in features]
    return MicroBatch(samples, collate(encoder, samples, counts, max_text_tokens), stack_by_shape(features))


def split_micro_batch(micro_batch: MicroBatch, parts: int) -> list[MicroBatch]:
    """Split a micro-batch into parts of equal size but for one sample, fewer where it has fewer samples.

    Each part is padded as the whole is: a Q-Former whose text is padded on the left then reads it at the same positions.
    """
    if parts == 1:
        return [micro_batch]
    size, text = len(micro_batch.samples), micro_batch.text
    bounds = [size * part // parts for part in range(parts + 1)]
    out = []
    for start, end in pairwise(bounds):
        if start == end:
            continue
        rows, qformer = slice(start, end), text.qformer_inputs
        own = replace(
            text,
            input_ids=text.input_ids[rows],
            labels=text.labels[rows],
            visual_mask=text.visual_mask[rows],
            qformer_inputs=qformer and QFormerInputs(qformer.input_ids[rows], qformer.attention_mask[rows]),
            lengths=text.lengths[rows],
            truncated=0,  # the whole has counted them
        )
        inside = [(group >= start) & (group < end) for group, _ in micro_batch.features]
        features = [
            (group[chosen] - start, stacked[chosen])
            for chosen, (group, stacked) in zip(inside, micro_batch.features, strict=True)
            if chosen.any()
        ]
        out.append(MicroBatch(micro_batch.samples[rows], own, features))
    return out


def supervised_tokens(sample: Sample, encoder: ConversationEncoder, max_text_tokens: int) -> int:
    """Return the number of supervised tokens of a sample, which does not depend on its visual tokens."""
    return int((collate(encoder, [sample], [1], max_text_tokens).labels[:, 1:] != IGNORE).sum())


def visual_tokens(
    model: VideoLM,
    groups: Sequence[tuple[Tensor, Tensor]],
    queries: Tensor | None = None,
    text: QFormerInputs | None = None,
) -> list[Tensor]:
    """Return the (Q, D) visual tokens of each row in order, whatever the shapes of their features.

    Args:
        model: whose connector runs, once for each shape.
        groups: of stack_by_shape.
        queries: see VideoLM.visual_tokens.
        text: of all rows, where the Q-Former reads text.
    """
    tokens: dict[int, Tensor] = {}
    for rows, features in groups:
        own = QFormerInputs(text.input_ids[rows], text.attention_mask[rows]) if text else None
        tokens.update(zip(rows.tolist(), model.visual_tokens(features.to(model.device), queries, own), strict=True))
    return [tokens[row] for row in range(len(tokens))]


def loss_sum(model: VideoLM, micro_batch: MicroBatch) -> Tensor:
    """Return the summed token loss of a micro-batch, with its graph."""
    visual = visual_tokens(model, micro_batch.features, text=micro_batch.text.qformer_inputs)
    return text_loss_sum(model, micro_batch.text, visual)


def text_loss_sum(model: VideoLM, text: TextBatch, visual: Sequence[Tensor]) -> Tensor:
    """Return the summed next-token loss of conversations, given the (Q, D) visual tokens of each."""
    labels = text.labels.to(model.device)
    embeds = model.embed(text.input_ids, visual, text.visual_mask)
    if text.first_embedding_value is not None:
        embeds = torch.cat([torch.full_like(embeds[:, :1], text.first_embedding_value), embeds[:, 1:]], dim=1)
    embeds, targets = embeds[:, :-1], labels[:, 1:]  # each position predicts the next token
    arguments = {}
    predicting = [length - 1 for length in text.lengths]
    if can_pack(model.language_model, predicting):
        inside = torch.arange(targets.shape[1])[None] < torch.tensor(predicting)[:, None]  # (B, L), False for padding
        inside = inside.to(targets.device)
        embeds, targets = embeds[inside][None], targets[inside][None]
        arguments = packed_arguments(predicting, embeds.device)
    supervised = targets != IGNORE
    logits, _ = model.logits_at(embeds, supervised, use_cache=False, **arguments)
    return token_loss_sum(logits, targets[supervised])
