"""Log-likelihood of every option of prompts that are in a cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qtablate.evaluate.prefix_cache import PrefixCache, log_probabilities, rows_that_fit
from qtablate.evaluate.prompt import Prompt
from qtablate.evaluate.scores import Scores
from qtablate.model.video_lm import VideoLM


def score_options(
    model: VideoLM, cache: PrefixCache, next_token: Tensor, prompts: Sequence[Prompt], max_rows: int
) -> list[Scores]:
    """Return the scores of every prompt's options.

    Args:
        model: in eval mode.
        cache: a row per prompt.
        next_token: (prompts, V) log-probabilities of the token after each prompt.
        prompts: what is in the cache.
        max_rows: options of ROW_TOKENS tokens, prompt included, that are read at once.
    """
    options = [(row, ids) for row, prompt in enumerate(prompts) for ids in prompt.question.options]
    first = next_token[torch.tensor([row for row, _ in options]), torch.tensor([ids[0] for _, ids in options])]
    totals = first.double().tolist()
    by_length = sorted(range(len(options)), key=lambda n: len(options[n][1]))  # equal lengths together: little padding
    end = 0
    while end < len(by_length):
        start, longest = end, by_length[min(end + max_rows, len(by_length)) - 1]
        end += rows_that_fit(max_rows, cache.length + len(options[longest][1]))
        numbers = [n for n in by_length[start:end] if len(options[n][1]) > 1]
        if numbers:
            chunk = [options[n] for n in numbers]
            for n, total in zip(numbers, _continuations(model, cache, chunk), strict=True):
                totals[n] += float(total)
    scores, start = [], 0
    for prompt in prompts:
        span = slice(start, start + len(prompt.question.options))
        counts = tuple(len(ids) for _, ids in options[span])
        scores.append(Scores(prompt.item, tuple(totals[span]), counts, prompt.scorer))
        start = span.stop
    return scores


def _continuations(model: VideoLM, cache: PrefixCache, options: Sequence[tuple[int, list[int]]]) -> Tensor:
    """Return the summed log-probability of each option's tokens after its first: (options,) in fp64.

    Args:
        model: in eval mode.
        cache: a row per prompt.
        options: (row of its prompt, token ids).
    """
    lengths = torch.tensor([len(ids) for _, ids in options])
    longest = int(lengths.max())
    padded = torch.zeros(len(options), longest, dtype=torch.long)
    for row, (_, ids) in enumerate(options):
        padded[row, : len(ids)] = torch.tensor(ids)
    predicting = torch.arange(longest - 1)[None] < lengths[:, None] - 1  # positions that predict a token of their option
    past = cache.select([row for row, _ in options])
    logits, _ = model.logits_at(model.embed(padded[:, :-1]), predicting, past_key_values=past, use_cache=True)
    targets = padded[:, 1:][predicting][:, None].to(logits.device)
    found = log_probabilities(logits).gather(1, targets)[:, 0].double().cpu()
    owner = torch.arange(len(options))[:, None].expand_as(predicting)[predicting]
    return torch.zeros(len(options), dtype=torch.float64).index_add_(0, owner, found)
