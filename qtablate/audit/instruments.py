"""Instruments of the audit: activations that autograd saves, and time and peak memory of a pass."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[dict[int, int]]:
    """Record what forward passes in this block save for their backward passes, without the model's own tensors.

    The figure is the same on every device: it counts what autograd saves, not what an allocator reserves. Of recomputed
    activations only what is kept until the recomputation counts.

    Yields:
        Address of a storage -> its size in bytes, filled by the passes.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """Result, time and memory of one run."""

    result: T
    seconds: float
    cuda_peak: int | None
    """Peak of allocated bytes above those before the run; None without a GPU."""


def timed(device: torch.device, run: Callable[[], T]) -> Timed[T]:
    """Run a function and measure it."""
    cuda, before = device.type == "cuda", 0
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    start = time.perf_counter()
    result = run()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return Timed(result, seconds, torch.cuda.max_memory_allocated(device) - before if cuda else None)
