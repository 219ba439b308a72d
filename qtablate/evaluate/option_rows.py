"""Log-likelihood of every option, with each question and all of its options in one row of tokens.

A mask lets each option see its clip, its question and itself, and its positions go on from the question's, as if it stood there
alone: so that a question is read once, and the keys and values of its clip are copied once, however many options it has. For
language models in which nothing but attention mixes positions (packing.py). Items that ask the same of the same clip share a
row, and equal options of theirs are read once: without a clip a benchmark repeats the same few questions thousands of times.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qtablate.evaluate import prefix_cache
from qtablate.evaluate.prefix_cache import PrefixCache, log_probabilities, rows_that_fit
from qtablate.evaluate.prompt import Prompt
from qtablate.evaluate.scores import Scores
from qtablate.model.video_lm import VideoLM

TokenIds = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One question about one clip, and some of the options that prompts give it."""

    clip: int
    """Row of the clip in the prefix cache."""
    question: TokenIds
    """Its tokens behind what is in the cache."""
    options: list[TokenIds]

    @property
    def length(self) -> int:
        """Tokens of the row: the last token of an option is only predicted."""
        return len(self.question) + sum(len(option) - 1 for option in self.options)


def score_in_rows(model: VideoLM, prefix: PrefixCache, prompts: Sequence[Prompt], common: int, max_rows: int) -> list[Scores]:
    """Return the scores of every prompt's options.

    Args:
        model: in eval mode.
        prefix: a row per clip.
        prompts: about these clips.
        common: tokens at the beginning of every question that are in the cache already.
        max_rows: rows of ROW_TOKENS tokens that are read at once.
    """
    asked = [(prompt.context, tuple(prompt.question.context[common:])) for prompt in prompts]
    found: dict[tuple[int, TokenIds], dict[TokenIds, float]] = {}
    for key, prompt in zip(asked, prompts, strict=True):
        found.setdefault(key, {}).update({tuple(option): 0.0 for option in prompt.question.options})
    rows = [row for key, options in found.items() for row in _split(*key, [*options], prefix_cache.ROW_TOKENS - prefix.length)]
    rows.sort(key=lambda row: row.length)  # equal lengths together: little padding
    end = 0
    while end < len(rows):
        start, longest = end, rows[min(end + max_rows, len(rows)) - 1].length
        end += rows_that_fit(max_rows, prefix.length + longest)
        chunk = rows[start:end]
        for row, totals in zip(chunk, _read(model, prefix, chunk), strict=True):
            found[row.clip, row.question].update(zip(row.options, totals, strict=True))
    return [
        Scores(
            prompt.item,
            tuple(found[key][tuple(option)] for option in prompt.question.options),
            tuple(map(len, prompt.question.options)),
            prompt.scorer,
        )
        for key, prompt in zip(asked, prompts, strict=True)
    ]


def _split(clip: int, question: TokenIds, options: Sequence[TokenIds], limit: int) -> list[OptionRow]:
    """Return rows of at most `limit` tokens, or of one option where that is longer, since attention in a row is quadratic."""
    rows = [OptionRow(clip, question, [])]
    for option in options:
        if rows[-1].options and rows[-1].length + len(option) - 1 > limit:
            rows.append(OptionRow(clip, question, []))
        rows[-1].options.append(option)
    return rows


def _read(model: VideoLM, prefix: PrefixCache, rows: Sequence[OptionRow]) -> list[list[float]]:
    """Read rows at once, and return the log-likelihood of each option of each row, summed over its tokens in fp64."""
    longest = max(row.length for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    branch = torch.full((len(rows), longest), -1)  # of each token: 0 the question, then the options; -1 padding
    position = torch.zeros(len(rows), longest, dtype=torch.long)
    predicts: list[tuple[int, int, int]] = []  # (row, place, token that follows there), of all options in order
    for number, row in enumerate(rows):
        start = len(row.question)
        tokens, branches, positions = [*row.question], [0] * start, [*range(start)]
        for count, option in enumerate(row.options, start=1):
            places = [start - 1, *range(len(tokens), len(tokens) + len(option) - 1)]
            predicts += [(number, place, token) for place, token in zip(places, option, strict=True)]
            tokens += option[:-1]
            branches += [count] * (len(option) - 1)
            positions += range(start, start + len(option) - 1)
        span = slice(len(tokens))
        ids[number, span], branch[number, span], position[number, span] = map(torch.tensor, (tokens, branches, positions))
    clips = prefix.select([row.clip for row in rows])
    row_of, place_of, target = torch.tensor(predicts).T
    predicting = torch.zeros_like(ids, dtype=torch.bool)
    predicting[row_of, place_of] = True
    device = prefix.layers[0][0].device
    logits, _ = model.logits_at(
        model.embed(ids),
        predicting,
        past_key_values=clips,
        use_cache=True,
        position_ids=(prefix.length + position).to(device),
        attention_mask=_visible(branch, prefix.length).to(device),
    )
    rank = (predicting.flatten().cumsum(0) - 1).view_as(ids)[row_of, place_of]  # of each place among those that have logits
    found = log_probabilities(logits)[rank.to(device), target.to(device)].double().tolist()
    tokens_found = iter(found)
    return [[sum(itertools.islice(tokens_found, len(option))) for option in row.options] for row in rows]


def _visible(branch: Tensor, before: int) -> Tensor:
    """Return what each token sees: (rows, 1, L, before + L) bool, the cache and, of its row, the question and its own branch
    up to itself.

    Args:
        branch: (rows, L), 0 in the question.
        before: tokens in the cache.
    """
    seen, seeing = branch[:, None, :], branch[:, :, None]
    own = ((seen == 0) | (seen == seeing)).tril()
    return torch.cat([own.new_ones(*own.shape[:2], before), own], dim=2)[:, None]
