"""Log-likelihood of every option, with each question and all of its options in one row of tokens.

A mask lets each option see its clip, its question and itself, and its positions go on from the question's, as if it stood there
alone: so that a question is read once, and the keys and values of its clip are copied once, however many options it has. For
language models in which nothing but attention mixes positions (packing.py). Items that ask the same of the same clip share a
row, and equal options of theirs are read once: without a clip a benchmark repeats the same few questions thousands of times.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from qtablate.evaluate.prefix_cache import PrefixCache, log_probabilities, rows_that_fit
from qtablate.evaluate.prompt import Prompt
from qtablate.evaluate.scores import Scores
from qtablate.model.video_lm import VideoLM

TokenIds = tuple[int, ...]


@dataclass(slots=True)
class OptionRow:
    """One question about one clip, and all options that any prompt gives it."""

    clip: int
    """Row of the clip in the prefix cache."""
    question: TokenIds
    """Its tokens behind what is in the cache."""
    options: dict[TokenIds, float] = field(default_factory=dict)
    """The summed log-likelihood of each option's tokens."""

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
    rows: dict[tuple[int, TokenIds], OptionRow] = {}
    of_prompt = []
    for prompt in prompts:
        question = tuple(prompt.question.context[common:])
        row = rows.setdefault((prompt.context, question), OptionRow(prompt.context, question))
        row.options |= {tuple(option): 0.0 for option in prompt.question.options}
        of_prompt.append(row)
    by_length = sorted(rows.values(), key=lambda row: row.length)  # equal lengths together: little padding
    end = 0
    while end < len(by_length):
        start, longest = end, by_length[min(end + max_rows, len(by_length)) - 1].length
        end += rows_that_fit(max_rows, prefix.length + longest)
        _read(model, prefix, by_length[start:end])
    return [
        Scores(
            prompt.item,
            tuple(row.options[tuple(option)] for option in prompt.question.options),
            tuple(map(len, prompt.question.options)),
            prompt.scorer,
        )
        for prompt, row in zip(prompts, of_prompt, strict=True)
    ]


def _read(model: VideoLM, prefix: PrefixCache, rows: Sequence[OptionRow]) -> None:
    """Read rows at once, and write the log-likelihood of their options into them."""
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
    done = 0
    for row in rows:
        for option in row.options:
            row.options[option] = sum(found[done : done + len(option)])
            done += len(option)


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
