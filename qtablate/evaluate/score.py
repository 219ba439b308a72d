"""Multiple choice by option likelihood, from one visual prefix a clip.

The visual tokens of a clip and what stands before the first question pass the language model once, all questions of the
clip continue from its cache, and all options of a question from the question's. Equal to scoring each option alone, to
rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from qtablate.bench.items import Item
from qtablate.bench.prompts import after_visual, answered, asked, before_visual
from qtablate.model.encode import Encoder
from qtablate.model.videochat2 import VideoChat2Model

CLIPS_AT_ONCE = 128
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
class _Cache:
    """Keys and values of each layer after some text, a row each, and how many tokens that text has."""

    layers: list[tuple[Tensor, Tensor]]
    length: int

    @classmethod
    def after(cls, cache: Any, length: int) -> Self:
        return cls([(layer.keys, layer.values) for layer in cache.layers], length)

    def rows(self, which: Sequence[int]) -> DynamicCache:
        """A copy of some rows to continue from; a row may be named several times."""
        out, index = DynamicCache(), torch.tensor(which)
        for layer, (key, value) in enumerate(self.layers):
            out.update(key[index], value[index], layer)
        return out


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
    prefix = _prefix(model, encoder, features, items[0][0].medium)
    flat = [(item, clip) for clip, group in enumerate(items) for item in group]
    questions = [encoder.pieces(asked(encoder.form, item.question))[0] for item, _ in flat]
    by_length: dict[int, list[int]] = {}  # questions of one length together: what is cached holds no padding
    for number, ids in enumerate(questions):
        by_length.setdefault(len(ids), []).append(number)
    found: dict[int, Scores] = {}
    for length, numbers in by_length.items():
        for start in range(0, len(numbers), ROWS_AT_ONCE):
            some = numbers[start : start + ROWS_AT_ONCE]
            cache, first = _ask(model, prefix, [questions[n] for n in some], [flat[n][1] for n in some], length)
            scores = _answer(model, encoder, cache, first, [flat[n][0] for n in some])
            found.update(zip(some, scores, strict=True))
    return [found[number] for number in range(len(flat))]


def _prefix(model: VideoChat2Model, encoder: Encoder, features: Tensor, medium: str) -> _Cache:
    """[opening, visual tokens, closing] of each clip."""
    visual = model.visual_tokens(features)  # (clip, Q, D)
    ends = [encoder.pieces(pieces(encoder.form, medium))[0] for pieces in (before_visual, after_visual)]
    first, last = (model.embed(torch.tensor([ids])).expand(len(visual), -1, -1) for ids in ends)
    embeds = torch.cat([first, visual.to(first.dtype), last], dim=1)
    nowhere = torch.zeros(embeds.shape[:2], dtype=torch.bool)  # nothing is told yet
    _, cache = model.logits_at(embeds, nowhere, use_cache=True)
    return _Cache.after(cache, embeds.shape[1])


def _ask(
    model: VideoChat2Model, prefix: _Cache, questions: list[list[int]], clips: list[int], length: int
) -> tuple[_Cache, Tensor]:
    """Questions of one length after their clips: the cache, and (row, vocabulary) log-probabilities of the next token."""
    ids = torch.tensor(questions)
    last = torch.zeros_like(ids, dtype=torch.bool)
    last[:, -1] = True
    logits, cache = model.logits_at(model.embed(ids), last, past_key_values=prefix.rows(clips), use_cache=True)
    return _Cache.after(cache, prefix.length + length), _log_probabilities(logits)


def _answer(model: VideoChat2Model, encoder: Encoder, cache: _Cache, first: Tensor, items: list[Item]) -> list[Scores]:
    """Scores of every option of the items, a row of the cache each."""
    options = [
        (row, encoder.pieces(answered(encoder.form, text))[0]) for row, item in enumerate(items) for text in item.options
    ]
    totals = [float(first[row, ids[0]]) for row, ids in options]
    ordered = sorted(range(len(options)), key=lambda n: len(options[n][1]))  # of one length together: little padding
    for start in range(0, len(ordered), ROWS_AT_ONCE):
        some = [n for n in ordered[start : start + ROWS_AT_ONCE] if len(options[n][1]) > 1]
        if not some:
            continue
        longest = max(len(options[n][1]) for n in some)
        ids = torch.zeros(len(some), longest, dtype=torch.long)
        for place, n in enumerate(some):
            ids[place, : len(options[n][1])] = torch.tensor(options[n][1])
        lengths = torch.tensor([len(options[n][1]) for n in some])
        wanted = torch.arange(longest - 1)[None] < lengths[:, None] - 1  # each of these tells the token behind it
        rows = cache.rows([options[n][0] for n in some])
        logits, _ = model.logits_at(model.embed(ids[:, :-1]), wanted, past_key_values=rows, use_cache=True)
        told = _log_probabilities(logits).gather(1, ids[:, 1:][wanted][:, None])[:, 0]
        which = torch.arange(len(some))[:, None].expand_as(wanted)[wanted]
        sums = torch.zeros(len(some), dtype=torch.float64).index_add_(0, which, told.double())
        for n, total in zip(some, sums, strict=True):
            totals[n] += float(total)
    out, at = [], 0
    for item in items:
        span = range(at, at + len(item.options))
        out.append(Scores(item, tuple(totals[n] for n in span), tuple(len(options[n][1]) for n in span)))
        at = span.stop
    return out


def _log_probabilities(logits: Tensor) -> Tensor:
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
