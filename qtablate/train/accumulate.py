"""Gradient accumulation: the three rules, in one place.

A window is the `accumulate_grad_batches` micro-batches that share one optimizer step.
1. Its loss is the sum of its token losses over its supervised tokens, so that its gradient is that of one batch of
   the same samples (Hugging Face transformers got this wrong until October 2024, pull requests 34191 and 34198).
2. The gradient is clipped once, accumulated and, where a loss was scaled (fp16), unscaled.
3. Optimizer and learning-rate schedule step once.
The incorrect form of each rule has a name, so that its damage can be measured; it is never the default.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from qtablate.errors import ModelError
from qtablate.train.distributed import ALONE, Ranks
from qtablate.train.noise import Noise, NoiseMeter


@dataclass(frozen=True, slots=True)
class Rules:
    loss_norm: Literal["tokens", "micro_mean", "none"] = "tokens"
    """`micro_mean` divides each micro-batch's own mean by A; `none` does not divide the mean at all."""
    clip_per: Literal["window", "micro_batch"] = "window"
    lr_step_per: Literal["window", "micro_batch"] = "window"
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
    noise: Noise | None = None
    """How the micro-batches' gradients differ, where that was asked for and can be told."""

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss + self.norm)


def optimizer_steps(micro_batches: int, size: int) -> int:
    """The last window may be shorter; it is divided by what it really holds."""
    return math.ceil(micro_batches / size)


UNSCALED = GradScaler(enabled=False)


def accumulate(
    window: Sequence[M],
    loss_sum: Callable[[M], Tensor],
    parameters: Sequence[nn.Parameter],
    rules: Rules,
    *,
    scaler: GradScaler = UNSCALED,
    optimizer: torch.optim.Optimizer | None = None,
    meter: NoiseMeter | None = None,
    ranks: Ranks = ALONE,
) -> Gradient | None:
    """Leave the window's gradient in the parameters' `.grad` (which must be clear) and clip it.

    Args:
        window: micro-batches, this rank's share of each; each knows its supervised tokens before its forward pass.
        loss_sum: the summed token loss of a micro-batch, with a graph.
        scaler: of fp16 losses. It unscales once, when the window is whole; the caller then steps and updates it once.
        optimizer: whose gradients the scaler unscales; needed where it is enabled.
        meter: looks at each micro-batch's own gradient, where the rules are the right ones and there is one rank.
        ranks: who holds the other shares. Gradient and result are those of all shares, the same on every rank.

    Returns:
        None, with gradients untouched, when the window holds no supervised token. With an enabled scaler the norm may not
        be finite: then the scaler skips the optimizer's step, and the schedule must not step either.
    """
    held = [int(tokens) for tokens in ranks.total([micro_batch.supervised_tokens for micro_batch in window])]
    tokens = sum(held)
    if tokens == 0:
        return None
    total = 0.0
    for micro_batch, of_all_ranks in zip(window, held, strict=True):
        if of_all_ranks == 0:
            continue
        if micro_batch.supervised_tokens:
            loss = loss_sum(micro_batch)
            total += float(loss.detach())
            divisor = {"tokens": tokens, "micro_mean": of_all_ranks * len(window), "none": of_all_ranks}[rules.loss_norm]
            scaler.scale(loss / divisor).backward()
        if rules.clip_per == "micro_batch" and rules.max_grad_norm is not None:
            ranks.add_up(parameters)  # what is clipped has to be whole
            nn.utils.clip_grad_norm_(parameters, rules.max_grad_norm * scaler.get_scale())
            if ranks.rank:
                clear(parameters)  # the first rank has it, and it is added up again
        if meter:
            meter.look(micro_batch.supervised_tokens, tokens)
    ranks.add_up(parameters)
    [total] = ranks.total([total])
    if scaler.is_enabled():
        assert optimizer is not None
        scaler.scale(parameters[0].new_zeros(()))  # it must have scaled once, and a rank without tokens has not
        scaler.unscale_(optimizer)
    limit = math.inf if rules.max_grad_norm is None or rules.clip_per == "micro_batch" else rules.max_grad_norm
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    noise = meter.told(norm, scaler.get_scale()) if meter else None
    return Gradient(total / tokens, tokens, norm, min(1.0, limit / (norm + 1e-6)), noise)


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
