"""Where and in which precision a run computes.

Accelerate picks the device. Frozen parts may be held in bf16; trained parameters, their gradients and the optimizer's state are
always fp32; losses are scaled where gradients pass through fp16.
"""

import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from accelerate import PartialState
from torch import nn
from torch.amp import GradScaler

from qtablate.model.video_lm import VideoLM

LOAD_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""The dtype that frozen parts are loaded in, by --precision."""


@dataclass(frozen=True, slots=True)
class ComputeContext:
    """Device, autocast and loss scaling of a run."""

    device: torch.device
    autocast: Callable[[], AbstractContextManager[object]]
    """Makes the context of every forward pass."""
    scaler: GradScaler
    """Scales losses; enabled for fp16 alone, whose small gradients would vanish."""

    def peak_memory_mb(self) -> float:
        """Return this process's peak memory so far in MiB: on a GPU what torch allocated there, else all of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        units_per_mb = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss is in bytes on macOS, in KiB elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / units_per_mb


def compute_context(model: VideoLM, precision: str, gradient_checkpointing: bool = False) -> ComputeContext:
    """Move the model to the device that it is trained on, and return how it computes there.

    Args:
        model: loaded in LOAD_DTYPES[precision].
        precision: fp32, bf16 or fp16.
        gradient_checkpointing: recompute activations of Q-Former and language model in the backward pass.
    """
    # a Mac's GPU has no fp64, in which scores are summed
    device = PartialState().device if torch.cuda.is_available() else torch.device("cpu")
    cast(nn.Module, model).to(device)
    if gradient_checkpointing:
        for part in (model.qformer, model.language_model):
            # until transformers 5.2x the methods were named gradient_checkpointing_*, newer ones activation_checkpointing_*
            older, newer = "gradient_checkpointing", "activation_checkpointing"
            name = newer if hasattr(part, f"{newer}_enable") else older
            getattr(part, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    half = torch.float16 if precision == "fp16" else torch.bfloat16
    return ComputeContext(
        device,
        partial(torch.autocast, device.type, half, enabled=precision != "fp32"),
        GradScaler(device.type, enabled=precision == "fp16"),
    )


@contextmanager
def deterministic(warn_only: bool | None = None) -> Iterator[None]:
    """Compute on one thread with deterministic algorithms; all settings are as before when the block ends.

    One thread, because two busy processes of two threads each ran 15 times slower than of one each. On a CPU a cell then
    repeats bit for bit; on a GPU some operations have no deterministic form, and torch warns of them.

    Args:
        warn_only: warn of an operation without a deterministic form instead of raising; None: only where there is a GPU.
    """
    threads = torch.get_num_threads()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    enabled = torch.are_deterministic_algorithms_enabled()
    warned_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.set_num_threads(1)
    # nothing here reads what it has not written
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available() if warn_only is None else warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warned_only)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.set_num_threads(threads)
