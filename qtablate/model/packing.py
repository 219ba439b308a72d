"""Sequences one behind the other in place of padded rows, so that no layer of the language model computes padding.

Norms and linear layers treat each position alone, so only attention has to know where a sequence ends: it takes one by
one. The language model is transformers' own; its attention is registered there under ATTENTION.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "qtablate_packed"
"""Name of the attention: torch's scaled_dot_product_attention, which is transformers' `sdpa`, of packed sequences too."""
PACKABLE_TYPES = ("llama", "mistral", "qwen2", "phi3")
"""model_type of language models in which nothing but causal attention mixes positions, and which pass arguments on to it."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    sequence_lengths: Sequence[int] | None = None,
    **arguments: Any,
) -> tuple[Tensor, None]:
    """Attend within each sequence: (1, heads, T, D) queries, keys and values -> (1, T, heads, D).

    Args:
        module: the attention layer.
        query: T positions, those of all sequences.
        key: as the query, with fewer heads where they are shared.
        value: as the key.
        attention_mask: of sequences that are not packed.
        sequence_lengths: their sum is T. None: nothing is packed, and attention is transformers' own.
        arguments: of transformers' `sdpa`.
    """
    if sequence_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    lengths = list(sequence_lengths)
    sequences = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    attended = [sdpa_attention_forward(module, *sequence, None, **arguments)[0] for sequence in sequences]
    return torch.cat(attended, dim=1), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, packed_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION, sdpa_mask)


def enable_packing(language_model: Any) -> None:
    """Give a language model that can take packed sequences the attention for them; others stay as they are."""
    config = language_model.config
    if config.model_type in PACKABLE_TYPES and config._attn_implementation == "sdpa":
        language_model.set_attn_implementation(ATTENTION)


def can_pack(language_model: Any, lengths: Sequence[int]) -> bool:
    """Tell whether sequences of these lengths can be packed: not where attention only reaches back part of one."""
    config = language_model.config
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    return config._attn_implementation == ATTENTION and (window is None or max(lengths) <= window)


def packed_arguments(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """Return the arguments of a language model's forward pass over packed sequences: one row of sum(lengths) positions."""
    positions = torch.cat([torch.arange(length, device=device) for length in lengths])
    # a mask of four dimensions is taken as it is, so that none is made; packed_attention reads none
    unread = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)
    return {"position_ids": positions[None], "attention_mask": unread, "sequence_lengths": list(lengths)}
