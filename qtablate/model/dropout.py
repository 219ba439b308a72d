"""Random masks in a model: which layers draw them, how to disable them, and stochastic depth for the Q-Former."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

VISION_TOWERS = ("vision.", "vision_model.")
"""Prefixes of the frozen vision tower's layers; its features are computed once, in eval mode, so its dropout never acts."""


class DropPath(nn.Module):
    """Stochastic depth: drops a branch for whole samples and scales up the others (Huang et al. 2016, arXiv 1603.09382)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, ...)."""
        if not self.training or not self.p:
            return x
        kept = torch.rand(len(x), *[1] * (x.dim() - 1), device=x.device) >= self.p
        return x * kept / (1 - self.p)


def add_drop_path(qformer: nn.Module, rate: float) -> None:
    """Put a DropPath behind every dropout of a Q-Former that stands in front of a residual norm.

    transformers' Q-Former has none. It has no parameters, so names and weights stay as they are.

    Args:
        rate: probability in the last layer, rising linearly from 0 in the first.
    """
    layers = cast(nn.ModuleList, cast(Any, qformer).encoder.layer)
    for number, layer in enumerate(layers):
        layer_rate = rate * number / max(1, len(layers) - 1)
        for name, part in layer.named_modules():
            is_output = name.endswith(("output", "output_query")) and isinstance(getattr(part, "dropout", None), nn.Dropout)
            if layer_rate and is_output:
                part.dropout = nn.Sequential(part.dropout, DropPath(layer_rate))


def has_dropout(model: nn.Module) -> bool:
    """Tell whether training draws random masks; they depend on how a batch is split, so no two splits agree then."""
    return bool(dropout_layers(model))


def dropout_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers outside the vision tower that draw random masks in training, by name."""
    trained = {name: layer for name, layer in model.named_modules() if not name.startswith(VISION_TOWERS)}
    return {name: layer for name, layer in trained.items() if next(_dropout_rates(layer), None)}


def disable_dropout(layer: nn.Module) -> None:
    """Set every dropout rate of one layer to 0."""
    for owner, name in list(_dropout_rates(layer)):
        setattr(owner, name, 0.0)


def _dropout_rates(layer: nn.Module) -> Iterator[tuple[object, str]]:
    """Yield (owner, attribute) of each rate above 0 that the layer itself reads.

    No base class or name marks such layers, so all of these count:
    - `p` of a module whose class is some kind of Drop... (torch's Dropout classes, DropPath);
    - a number in an attribute named after dropping: `attention_dropout` (Llama), `dropout` (OPT, torch's MultiheadAttention
      and LSTM), `drop_prob` (timm's and transformers' DropPath), `layerdrop`;
    - the config's rate, where an attention layer has neither such an attribute nor a dropout module, and so can only read its
      config when it runs.
    """
    is_drop = "drop" in type(layer).__name__.lower()
    rates = {name: value for name, value in vars(layer).items() if "drop" in name.lower() or (is_drop and name == "p")}
    for name, value in rates.items():
        if _is_positive(value):
            yield layer, name
    own_rate = any(_is_number(value) for value in rates.values()) or any("drop" in name for name, _ in layer.named_children())
    config = vars(layer).get("config")
    if config is not None and not own_rate and "attention" in type(layer).__name__.lower():
        for name, value in list(vars(config).items()):
            if "drop" in name and ("attention" in name or "attn" in name) and _is_positive(value):
                yield config, name


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_positive(value: object) -> bool:
    return _is_number(value) and cast(float, value) > 0
