"""Multiple choice by likelihood, by letter and by generation, from one visual prefix per clip.

All questions of a clip continue from one cache, and all options of a question, or its generated answer, from the question's
(prefix_cache.py). The scores equal those of each prompt alone, to rounding.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qtablate.datatypes import IMAGE, Item, Problem
from qtablate.evaluate.generation import generate_answers
from qtablate.evaluate.likelihood import score_options
from qtablate.evaluate.option_rows import score_in_rows
from qtablate.evaluate.prefix_cache import (
    PrefixCache,
    batch_limits,
    encode_prefix,
    extend,
    max_common_tokens,
    rows_that_fit,
)
from qtablate.evaluate.prompt import GENERATE, LIKELIHOOD, Prompt, build_prompts
from qtablate.evaluate.scores import Scores, merge_rotations
from qtablate.model.encode import ConversationEncoder
from qtablate.model.packing import can_pack
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.mvbench import MAX_NEW_TOKENS
from qtablate.prompts.types import common_context_length


@dataclass(frozen=True, slots=True)
class ClipContext:
    """One clip with one text for the Q-Former: all that its visual tokens depend on."""

    clip: str
    qformer_text: str
    items: list[Item]
    """Items about it."""


def score(
    model: VideoLM,
    encoder: ConversationEncoder,
    items: Sequence[Item],
    features: Callable[[str], Tensor],
    scorers: Sequence[str] = (LIKELIHOOD,),
) -> Iterator[list[Scores]]:
    """Yield the scores of all items by every scorer, a group of clips at a time, in the order of the items' clips.

    Args:
        model: set to eval mode.
        encoder: of texts.
        items: that fit (fitting_items).
        features: gives a clip's frozen features (N, D).
        scorers: of SCORERS.
    """
    model.eval()
    contexts: dict[tuple[str, str], ClipContext] = {}
    for item in items:
        text = encoder.qformer_text(item)
        contexts.setdefault((item.clip, text), ClipContext(item.clip, text, [])).items.append(item)
    # clips of one medium, instruction and shape of features are read together
    groups: dict[tuple[str, str, torch.Size], list[ClipContext]] = {}
    for context in contexts.values():
        first = context.items[0]
        groups.setdefault((first.medium, first.instruction, features(context.clip).shape), []).append(context)
    max_clips, max_rows = batch_limits(model)
    for group in groups.values():
        size = rows_that_fit(max_clips, model.count_visual_tokens(features(group[0].clip)))
        for start in range(0, len(group), size):
            chunk = group[start : start + size]
            stacked = torch.stack([features(context.clip) for context in chunk])
            with torch.inference_mode():
                yield _score_contexts(model, encoder, chunk, stacked, max_rows, scorers)


def _score_contexts(
    model: VideoLM,
    encoder: ConversationEncoder,
    contexts: Sequence[ClipContext],
    features: Tensor,
    max_rows: int,
    scorers: Sequence[str],
) -> list[Scores]:
    """Return the scores of all items about clips of one shape.

    Args:
        model: in eval mode.
        encoder: of texts.
        contexts: the clips and their items.
        features: (B, N, D) of the clips.
        max_rows: prompts of ROW_TOKENS tokens that are read at once.
        scorers: of SCORERS.
    """
    prompts = [
        prompt
        for number, context in enumerate(contexts)
        for item in context.items
        for prompt in build_prompts(encoder, item, number, scorers)
    ]
    texts, before = [prompt.question.context for prompt in prompts], prompts[0].question.prefix
    clip_tokens = len(before) + model.count_visual_tokens(features[0])
    # each clip's row is bounded, however long the common beginning of the questions is
    common = texts[0][: min(common_context_length(texts), max_common_tokens(clip_tokens))]
    prefix = encode_prefix(model, encoder, features, [context.items[0] for context in contexts], before, common)
    scores: dict[int, Scores] = {}
    in_rows = [number for number, prompt in enumerate(prompts) if _fits_in_rows(model, prefix, prompt)]
    asked = [prompts[number] for number in in_rows]
    scores.update(zip(in_rows, score_in_rows(model, prefix, asked, len(common), max_rows), strict=True))
    by_length: dict[tuple[bool, int], list[int]] = {}  # prompts of one length together: no padding is cached
    for number, prompt in enumerate(prompts):
        if number not in scores:
            by_length.setdefault((prompt.scorer == GENERATE, len(texts[number]) - len(common)), []).append(number)
    for (generated, length), numbers in by_length.items():
        size = rows_that_fit(max_rows, prefix.length + length)
        for start in range(0, len(numbers), size):
            chunk = numbers[start : start + size]
            posed = [prompts[number] for number in chunk]
            questions = [texts[number][len(common) :] for number in chunk]
            cache, next_token = extend(model, prefix, questions, [prompt.context for prompt in posed])
            if generated:
                found = generate_answers(model, encoder, cache, next_token, posed)
            else:
                found = score_options(model, cache, next_token, posed, max_rows)
            scores.update(zip(chunk, found, strict=True))
    return merge_rotations([scores[number] for number in range(len(prompts))])


def _fits_in_rows(model: VideoLM, prefix: PrefixCache, prompt: Prompt) -> bool:
    """Tell whether a prompt's options can be read in one row with its question."""
    question = prompt.question
    length = prefix.length + len(question.context) + sum(map(len, question.options))
    return prompt.scorer != GENERATE and can_pack(model.language_model, [length])


def fitting_items(
    model: VideoLM, encoder: ConversationEncoder, items: Sequence[Item], scorers: Sequence[str] = (LIKELIHOOD,)
) -> tuple[list[Item], list[Problem]]:
    """Split items into those that every scorer can score, and problems that name the others.

    An item's length is that of its visual tokens, its prompt and its longest option, or of MAX_NEW_TOKENS where an answer is
    generated, by the scorer that needs most; it must be within the language model's positions. A config without
    `max_position_embeddings` sets no limit. An item whose text holds the markers that stand around visual tokens cannot be
    scored either: the place of the clip would be ambiguous.
    """
    positions = getattr(model.language_model.config, "max_position_embeddings", None)
    fitting: list[Item] = []
    problems: list[Problem] = []
    for item in items:
        visual = model.num_queries if item.medium == IMAGE else model.num_visual_tokens
        try:
            prompts = list(build_prompts(encoder, item, 0, scorers))
        except ValueError as error:
            problems.append(Problem(item.id, "unusable text", str(error)))
            continue
        lengths = []
        for prompt in prompts:
            question = prompt.question
            answer = MAX_NEW_TOKENS if prompt.scorer == GENERATE else max(map(len, question.options))
            lengths.append((len(question.prefix) + len(question.context), answer))
        text, answer = max(lengths, key=lambda pair: (sum(pair), *pair))
        needed = visual + text + answer
        if positions is None or needed <= positions:
            fitting.append(item)
        else:
            parts = f"{visual:,} visual, {text:,} of the prompt, {answer:,} of the longest answer"
            detail = f"{needed:,} tokens ({parts}); the language model has {positions:,} places"
            problems.append(Problem(item.id, "text too long", detail))
    return fitting, problems
