"""Greedy answers to prompts that are in a cache."""

from collections.abc import Sequence

import torch
from torch import Tensor

from qtablate.evaluate.prefix_cache import PrefixCache
from qtablate.evaluate.prompt import GENERATE, Prompt
from qtablate.evaluate.scores import Scores
from qtablate.model.encode import ConversationEncoder
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.mvbench import MAX_NEW_TOKENS, first_line


def generate_answers(
    model: VideoLM, encoder: ConversationEncoder, cache: PrefixCache, next_token: Tensor, prompts: Sequence[Prompt]
) -> list[Scores]:
    """Generate greedily for all prompts at once, until each has ended its first line or has MAX_NEW_TOKENS tokens.

    Args:
        model: in eval mode.
        encoder: of texts.
        cache: a row per prompt.
        next_token: (prompts, V) log-probabilities of the token after each prompt.
        prompts: what is in the cache.
    """
    eos, stops = encoder.tokenizer.eos_token_id, ["\n", *encoder.format.stop_strings]
    past, logits = cache.select(range(len(prompts))), next_token
    answers: list[list[int]] = [[] for _ in prompts]
    finished = [False] * len(prompts)
    for _ in range(MAX_NEW_TOKENS):
        chosen = logits.argmax(-1)
        for row, token in enumerate(chosen.tolist()):
            if finished[row]:
                continue
            if token == eos:
                finished[row] = True
                continue
            answers[row].append(token)
            text = encoder.decode(answers[row])
            finished[row] = any(stop in text.lstrip() for stop in stops)
        if all(finished):
            break
        everywhere = torch.ones_like(chosen[:, None], dtype=torch.bool)
        logits, _ = model.logits_at(model.embed(chosen[:, None]), everywhere, past_key_values=past, use_cache=True)
    scores = []
    for prompt, ids in zip(prompts, answers, strict=True):
        text = encoder.decode(ids)
        for stop in encoder.format.stop_strings:
            text = text.split(stop)[0]
        scores.append(Scores(prompt.item, (), (), GENERATE, first_line(text)))
    return scores
