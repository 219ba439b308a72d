"""Multiple choice by option likelihood, from one visual prefix a clip.

The visual tokens of a clip and what stands before the first question pass the language model once; all questions and
options of the clip continue from its cache. Equal to scoring each option alone, to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from qtablate.bench.items import Item
from qtablate.bench.prompts import after_visual, answered, asked, before_visual
from qtablate.model.encode import IGNORE, Encoder
from qtablate.model.videochat2 import VideoChat2Model

CLIPS_AT_ONCE = 32
ROWS_AT_ONCE = 192


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one item: for each option its summed log-likelihood and the number of tokens in the sum."""

    item: Item
    total: tuple[float, ...]
    tokens: tuple[int, ...]

    @property
    def predicted(self) -> int:
        """The likeliest option; the first of equals."""
        return max(range(len(self.total)), key=lambda option: self.total[option])

    @property
    def predicted_per_token(self) -> int:
        """The likeliest option by mean log-likelihood a token: long options are not punished for their length."""
        return max(range(len(self.total)), key=lambda option: self.total[option] / self.tokens[option])


@dataclass(frozen=True, slots=True)
class _Row:
    item: int
    option: int
    clip: int
    ids: list[int]
    labels: list[int]


def score(
    model: VideoChat2Model, encoder: Encoder, items: Sequence[Item], features: Callable[[str], Tensor]
) -> Iterator[list[Scores]]:
    """Scores of all items, a group of clips at a time, in the order of the items' clips."""
    model.eval()
    clips = list(dict.fromkeys(item.clip for item in items))
    by_clip: dict[str, list[Item]] = {clip: [] for clip in clips}
    for item in items:
        by_clip[item.clip].append(item)
    groups: dict[tuple[str, torch.Size], list[str]] = {}
    for clip in clips:
        groups.setdefault((by_clip[clip][0].medium, features(clip).shape), []).append(clip)
    for names in groups.values():
        for start in range(0, len(names), CLIPS_AT_ONCE):
            some = names[start : start + CLIPS_AT_ONCE]
            with torch.inference_mode():
                yield _score_clips(model, encoder, [by_clip[name] for name in some], torch.stack([features(n) for n in some]))


def _score_clips(model: VideoChat2Model, encoder: Encoder, items: list[list[Item]], features: Tensor) -> list[Scores]:
    keys, length = _prefix(model, encoder, features, items[0][0].medium)
    flat = [(item, clip) for clip, group in enumerate(items) for item in group]
    rows = []
    for number, (item, clip) in enumerate(flat):
        for option, text in enumerate(item.options):
            ids, labels = encoder.pieces([*asked(encoder.form, item.question), *answered(encoder.form, text)])
            rows.append(_Row(number, option, clip, ids, labels))
    rows.sort(key=lambda row: (len(row.ids), row.item, row.option))  # rows of one length together: little padding
    sums: dict[tuple[int, int], tuple[float, int]] = {}
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        for row, total in zip(some, _continue(model, keys, length, some), strict=True):
            sums[row.item, row.option] = (total, sum(label != IGNORE for label in row.labels))
    out = []
    for number, (item, _) in enumerate(flat):
        found = [sums[number, option] for option in range(len(item.options))]
        out.append(Scores(item, tuple(total for total, _ in found), tuple(tokens for _, tokens in found)))
    return out


def _prefix(model: VideoChat2Model, encoder: Encoder, features: Tensor, medium: str) -> tuple[list[tuple[Tensor, Tensor]], int]:
    """Keys and values of each layer for [opening, visual tokens, closing] of each clip, and their length."""
    visual = model.visual_tokens(features)  # (clip, Q, D)
    ends = [encoder.pieces(pieces(encoder.form, medium))[0] for pieces in (before_visual, after_visual)]
    first, last = (model.embed(torch.tensor([ids])).expand(len(visual), -1, -1) for ids in ends)
    embeds = torch.cat([first, visual.to(first.dtype), last], dim=1)
    cache = model.language_model(inputs_embeds=embeds, use_cache=True).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers], embeds.shape[1]


def _continue(model: VideoChat2Model, keys: list[tuple[Tensor, Tensor]], length: int, rows: list[_Row]) -> list[float]:
    """Summed log-likelihood of each row's labelled tokens, from its clip's cache."""
    clips = torch.tensor([row.clip for row in rows])
    cache = DynamicCache()
    for layer, (key, value) in enumerate(keys):
        cache.update(key[clips], value[clips], layer)
    longest = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    labels = torch.full((len(rows), longest), IGNORE, dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row.ids)] = torch.tensor(row.ids)
        labels[number, : len(row.ids)] = torch.tensor(row.labels)
    positions = torch.arange(length, length + longest)[None]
    logits = model.language_model(
        inputs_embeds=model.embed(ids), past_key_values=cache, position_ids=positions, use_cache=True
    ).logits
    wanted = labels[:, 1:] != IGNORE  # the first token of a row is a turn marker, never labelled
    picked = logits[:, :-1][wanted]
    picked = picked if picked.dtype == torch.float64 else picked.float()
    losses = nn.functional.cross_entropy(picked, labels[:, 1:][wanted], reduction="none")
    which = torch.arange(len(rows))[:, None].expand_as(wanted)[wanted]
    sums = torch.zeros(len(rows), dtype=torch.float64).index_add_(0, which, losses.double())
    return [-float(total) for total in sums]
