"""Where a run computes and in which precision: Accelerate picks the device, what is frozen may be held in bf16, what is
trained, its gradients and the optimizer's state are fp32 always; losses are scaled where gradients pass through fp16."""

import resource
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from accelerate import PartialState
from torch.amp import GradScaler

from qtablate.model.family import Family

LOADED = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""How the frozen parts are loaded, by --precision."""


@dataclass(frozen=True, slots=True)
class Place:
    device: torch.device
    autocast: Callable[[], AbstractContextManager[Any]]
    """Around every forward pass."""
    scaler: GradScaler
    """Of the losses, enabled for fp16 alone: its small gradients would vanish."""

    def peak_memory_mb(self) -> float:
        """Of this process so far: on a GPU what torch held there, else all of it."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def place(model: Family, precision: str, checkpointing: bool = False) -> Place:
    """Move the model to where it is trained, and say how it computes there.

    Args:
        precision: fp32, bf16 or fp16; the model was loaded accordingly.
        checkpointing: recompute activations of Q-Former and language model in the backward pass instead of keeping them.
    """
    # a Mac's GPU has no fp64, in which scores are summed
    device = PartialState().device if torch.cuda.is_available() else torch.device("cpu")
    cast(Any, model).to(device)
    if checkpointing:
        for part in (model.qformer, model.language_model):
            # the name until transformers 5.2x; "gradient" there meant these activations
            older, newer = "gradient_checkpointing", "activation_checkpointing"
            name = newer if hasattr(part, f"{newer}_enable") else older
            getattr(part, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return Place(
        device,
        partial(torch.autocast, device.type, half, enabled=precision != "fp32"),
        GradScaler(device.type, enabled=precision == "fp16"),
    )
