"""The model that an audit measures, and copies of it in higher precisions."""

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from qtablate.model.video_lm import VideoLM
from qtablate.train.accumulate import clear_gradients
from qtablate.train.batches import MicroBatch, loss_sum

COPY_BYTES = 400_000_000
"""Largest size of a copy of the model in another precision."""
FP16_SCALE = 2.0**10
"""Loss scale in fp16: small gradients do not vanish and large ones do not overflow. In training a GradScaler finds its own."""

Gradients = Mapping[str, Tensor]
"""Gradient of every trained parameter by name."""


@dataclass(frozen=True, slots=True)
class Target:
    """A model in one precision and the way its loss is computed."""

    model: VideoLM
    parameters: Mapping[str, nn.Parameter]
    """The trained parameters by name."""
    dtype: torch.dtype | None = None
    """Features are converted to this; None: they are not converted."""
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext
    loss_scale: float = 1.0
    """Factor of losses before their backward pass, as a GradScaler's; 1 except in fp16."""

    def loss(self, micro: MicroBatch) -> Tensor:
        """Return the summed token loss of a micro-batch, with its graph."""
        if self.dtype:
            micro = replace(micro, features=[(rows, features.to(self.dtype)) for rows, features in micro.features])
        with self.autocast():
            return loss_sum(self.model, micro)

    def take_gradients(self) -> Gradients:
        """Return the gradients in `.grad` and clear them."""
        gradients = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.parameters.items()}
        clear_gradients(list(self.parameters.values()))
        return gradients


def references(target: Target, precision: str) -> tuple[dict[str, Target], dict[str, str]]:
    """Copy the model in fp32 and fp64, without the precision that it has.

    Returns:
        Copies by precision, and by precision why a copy is missing: it would be larger than COPY_BYTES.
    """
    copies, missing = {}, {}
    numbers = sum(parameter.numel() for parameter in target.model.parameters())
    for name, dtype in {"fp32": torch.float32, "fp64": torch.float64}.items():
        size = numbers * dtype.itemsize
        if name == precision:
            continue
        if size > COPY_BYTES:
            missing[name] = f"a copy of the model would take {size / 1e9:.2g} GB, more than {COPY_BYTES / 1e9:g} GB"
            continue
        copies[name] = in_dtype(target, dtype)
    return copies, missing


def in_dtype(target: Target, dtype: torch.dtype) -> Target:
    """Copy a target, converted to another dtype."""
    model = copy.deepcopy(target.model).to(dtype=dtype)
    norm_in_own_dtype(model)
    named = dict(model.named_parameters())
    return Target(model, {name: named[name] for name in target.parameters}, dtype)


def norm_in_own_dtype(model: nn.Module) -> None:
    """Let the RMSNorm layers of a model compute in the dtype of their input.

    transformers' own RMSNorm computes in fp32 whatever that dtype is, which puts a relative error of about 1e-9 into fp64.
    """
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
            weight = cast(Tensor, layer.weight)
            layer.forward = partial(
                nn.functional.rms_norm, normalized_shape=weight.shape, weight=weight, eps=cast(float, layer.variance_epsilon)
            )
