"""Keys and values of what many prompts have in common, so that the language model reads it once.

[prefix, visual tokens, what all questions of a group begin with] is read once per clip; every question of a clip continues
from there, and every option of a question, or its generated answer, from the question's own cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor
from transformers import DynamicCache

from qtablate.datatypes import Item
from qtablate.model.encode import ConversationEncoder
from qtablate.model.video_lm import VideoLM

MAX_CLIPS, MAX_ROWS = 128, 192
"""Clips, and prompts or options, that are read at once at most."""
MAX_CACHE_BYTES = 4 << 30
"""Bytes of keys and values at once at most, for rows of ROW_TOKENS tokens; of longer rows there are fewer."""
ROW_TOKENS = 512


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Keys and values after some text, of one row per clip or question."""

    layers: list[tuple[Tensor, Tensor]]
    """(rows, heads, length, width) keys and values of each layer."""
    length: int
    """Tokens that each row holds."""

    @classmethod
    def of(cls, cache: Any, length: int) -> Self:
        """Take over the layers of a transformers cache."""
        return cls([(layer.keys, layer.values) for layer in cache.layers], length)

    def select(self, rows: Sequence[int]) -> DynamicCache:
        """Copy some rows into a cache to continue from; a row may be named several times."""
        cache, index = DynamicCache(), torch.tensor(rows, device=self.layers[0][0].device)
        for layer, (key, value) in enumerate(self.layers):
            cache.update(key[index], value[index], layer)
        return cache


def batch_limits(model: VideoLM) -> tuple[int, int]:
    """Return the number of (clips, rows) of at most ROW_TOKENS tokens whose keys and values are in memory together."""
    config = model.language_model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    row_bytes = 2 * config.num_hidden_layers * heads * width * model.query_tokens.element_size() * ROW_TOKENS
    limit = max(2, int(MAX_CACHE_BYTES / 2 / row_bytes))
    return min(MAX_CLIPS, limit), min(MAX_ROWS, limit)


def rows_that_fit(limit: int, length: int) -> int:
    """Return how many rows of `length` tokens take the memory of `limit` rows of ROW_TOKENS; never more than `limit`."""
    return max(1, limit * ROW_TOKENS // max(length, ROW_TOKENS))


def max_common_tokens(length: int) -> int:
    """Return how many tokens may be added to a clip's `length`, so that every clip's row stays within ROW_TOKENS."""
    return max(0, ROW_TOKENS - length)


def encode_prefix(
    model: VideoLM,
    encoder: ConversationEncoder,
    features: Tensor,
    items: Sequence[Item],
    prefix: list[int],
    common: list[int],
) -> PrefixCache:
    """Read [prefix, visual tokens, common beginning of the questions] of each clip.

    Args:
        model: in eval mode.
        encoder: of texts.
        features: (B, N, D) of the clips.
        items: one of each clip, whose text the Q-Former reads.
        prefix: token ids before the visual tokens.
        common: token ids behind them.
    """
    visual = model.visual_tokens(features.to(model.device), text=encoder.qformer_inputs(items))  # (B, Q, D)
    first, last = (model.embed(torch.tensor([ids], dtype=torch.long)).expand(len(visual), -1, -1) for ids in (prefix, common))
    embeds = torch.cat([first, visual.to(first.dtype), last], dim=1)
    no_logits = torch.zeros(embeds.shape[:2], dtype=torch.bool)
    _, cache = model.logits_at(embeds, no_logits, use_cache=True)
    return PrefixCache.of(cache, embeds.shape[1])


def extend(
    model: VideoLM, prefix: PrefixCache, questions: Sequence[list[int]], rows: Sequence[int]
) -> tuple[PrefixCache, Tensor]:
    """Read questions of one length after their clips.

    Args:
        model: in eval mode.
        prefix: a row per clip.
        questions: token ids, all of one length.
        rows: the clip of each question.

    Returns:
        The cache, a row per question, and (questions, V) log-probabilities of the next token.
    """
    ids = torch.tensor(questions)
    last = torch.zeros_like(ids, dtype=torch.bool)
    last[:, -1] = True
    logits, cache = model.logits_at(model.embed(ids), last, past_key_values=prefix.select(rows), use_cache=True)
    return PrefixCache.of(cache, prefix.length + ids.shape[1]), log_probabilities(logits)


def log_probabilities(logits: Tensor) -> Tensor:
    """Return the log-softmax of logits, in fp32 or better."""
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)
