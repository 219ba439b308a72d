"""Initial values from named random streams: a parameter's values depend on (seed, its name) and on nothing else."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from qtablate.seeds import derive


def normal(shape: tuple[int, ...], std: float, *stream: object) -> Tensor:
    """Draw float32 normal values; a longer table of the same stream starts with the rows of the shorter one.

    Args:
        stream: what the random stream is derived from, such as "init", a seed and a parameter's name.
    """
    generator = np.random.Generator(np.random.Philox(derive(*stream)))
    return torch.from_numpy(generator.standard_normal(shape)).float() * std


@torch.no_grad()
def initialize(module: nn.Module, seed: int, name: str) -> None:
    """Initialize a module in place: norms to one and zero, biases to zero, weights to normal(1 / sqrt(fan-in)).

    transformers' standard deviation of 0.02 is made for wide models and hardly trains at width 96; 1 / sqrt(fan-in) trains
    at any width.

    Args:
        name: of the module, a part of the random stream.
    """
    for path, child in module.named_modules():
        for leaf, parameter in child.named_parameters(recurse=False):
            if isinstance(child, nn.LayerNorm) or "norm" in type(child).__name__.lower():
                parameter.fill_(1.0 if leaf == "weight" else 0.0)
            elif leaf == "bias":
                parameter.zero_()
            else:
                fan_in = parameter[0].numel() if parameter.dim() > 1 else parameter.numel()
                values = normal(tuple(parameter.shape), 1 / math.sqrt(fan_in), "init", seed, name, path, leaf)
                parameter.copy_(values.to(parameter.dtype))
