"""What a run trains and what it freezes, and how the optimizer treats each."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from qtablate.model.video_lm import VideoLM

_TEXT_PATH = (
    "embeddings.word_embeddings",
    "embeddings.position_embeddings",
    ".intermediate.",
    ".output.dense",
    ".output.LayerNorm",
)
"""Marks in the names of the Q-Former's parameters that only its text goes through."""


def choose_trainable(model: VideoLM, language_model: bool, adapter: bool = False) -> dict[str, nn.Parameter]:
    """Freeze and unfreeze the model's parameters; return the trained ones by name.

    Q-Former, queries and projection are trained; the vision encoder is frozen. Where the Q-Former reads no text, its text
    path (embeddings and the feed-forwards beside the queries' own) has no input: it is frozen, since it would only inflate
    the count of trainable parameters.

    Args:
        model: is changed in place.
        language_model: train the language model too.
        adapter: train its LoRA.
    """
    trained: dict[str, nn.Parameter] = {}
    reads_text = getattr(model.config, "qformer_text", False)
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        text_path = part == "qformer" and "attention." not in rest and any(mark in rest for mark in _TEXT_PATH)
        wanted = part in (*model.connector_modules, "query_tokens", "extra_query_tokens") and (reads_text or not text_path)
        wanted |= part == "language_model" and (adapter if ".lora_" in rest else language_model)
        parameter.requires_grad_(wanted)
        if wanted:
            trained[name] = parameter
    return trained


def build_optimizer(
    parameters: Mapping[str, nn.Parameter],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    extra_lr: float,
) -> torch.optim.AdamW:
    """Return AdamW with decay on matrices only: not on biases, norms and other vectors, nor on queries.

    A parameter group's `factor` is its learning rate as a multiple of the schedule's: `extra_lr` for the extra query tokens.
    """
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay, "factor": 1.0},
        {"params": [], "weight_decay": 0.0, "factor": 1.0},
        {"params": [], "weight_decay": 0.0, "factor": extra_lr},
    ]
    for name, parameter in parameters.items():
        decayed = parameter.dim() == 2 and "query_tokens" not in name
        groups[2 if name == "extra_query_tokens" else 0 if decayed else 1]["params"].append(parameter)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=betas, fused=True)
