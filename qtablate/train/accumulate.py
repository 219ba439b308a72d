"""Gradient accumulation: the three rules, in one place.

A window is the `accumulate_grad_batches` micro-batches that share one optimizer step.
1. Its loss is the sum of its token losses over its supervised tokens, so that its gradient is that of one batch of
   the same samples (Hugging Face transformers got this wrong until October 2024, pull requests 34191 and 34198).
2. The gradient is clipped once, accumulated.
3. Optimizer and learning-rate schedule step once.
The faulty form of each rule has a name, so that its damage can be measured; it is never the default.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from qtablate.errors import ModelError


@dataclass(frozen=True, slots=True)
class Rules:
    loss_norm: Literal["tokens", "micro_mean", "none"] = "tokens"
    """`micro_mean` divides each micro-batch's own mean by A; `none` does not divide the mean at all."""
    clip_at: Literal["window", "micro_batch"] = "window"
    schedule_at: Literal["window", "micro_batch"] = "window"
    max_grad_norm: float | None = None
    """None: no clipping, as in the original (max_grad_norm -1)."""


class MicroBatch(Protocol):
    @property
    def supervised_tokens(self) -> int: ...


M = TypeVar("M", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one window left in `.grad`."""

    loss: float
    """Summed token loss / supervised tokens of the window, whatever the rules: it does not depend on A."""
    tokens: int
    norm: float
    """Total norm before clipping at the window."""
    scale: float
    """What clipping at the window multiplied the gradient by; 1 where it did nothing."""


def windows(micro_batches: Sequence[M], size: int) -> Iterator[Sequence[M]]:
    """Groups of `size` micro-batches; the last may be shorter and is divided by what it really holds."""
    for start in range(0, len(micro_batches), size):
        yield micro_batches[start : start + size]


def optimizer_steps(micro_batches: int, size: int) -> int:
    return math.ceil(micro_batches / size)


def accumulate(
    window: Sequence[M], loss_sum: Callable[[M], Tensor], parameters: Sequence[nn.Parameter], rules: Rules
) -> Gradient | None:
    """Leave the window's gradient in the parameters' `.grad` (which must be clear) and clip it.

    Args:
        window: micro-batches; each knows its supervised tokens before its forward pass.
        loss_sum: the summed token loss of a micro-batch, with a graph.

    Returns:
        None, with gradients untouched, when the window holds no supervised token.
    """
    tokens = sum(micro_batch.supervised_tokens for micro_batch in window)
    if tokens == 0:
        return None
    total = 0.0
    for micro_batch in window:
        if micro_batch.supervised_tokens == 0:
            continue
        loss = loss_sum(micro_batch)
        total += float(loss.detach())
        divisor = {
            "tokens": tokens,
            "micro_mean": micro_batch.supervised_tokens * len(window),
            "none": micro_batch.supervised_tokens,
        }[rules.loss_norm]
        (loss / divisor).backward()
        if rules.clip_at == "micro_batch" and rules.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(parameters, rules.max_grad_norm)
    limit = math.inf if rules.max_grad_norm is None or rules.clip_at == "micro_batch" else rules.max_grad_norm
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    return Gradient(total / tokens, tokens, norm, min(1.0, limit / (norm + 1e-6)))


def refuse_batch_statistics(model: nn.Module) -> None:
    """Raise when a layer in training mode mixes samples: its statistics would depend on the micro-batch size."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or not layer.track_running_stats):
            raise ModelError(
                f"layer '{name}' is a {type(layer).__name__} in training mode: its statistics depend on the micro-batch "
                "size, so accumulation cannot equal a larger batch. Freeze it with .eval() or use LayerNorm or GroupNorm."
            )


def clear(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None


def token_loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Summed token loss: (n, V) logits against the (n,) tokens that they should tell, in at least fp32."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(logits, labels, reduction="sum")
