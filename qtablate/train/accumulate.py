"""Gradient accumulation: the three rules, in one place.

A window is the `accumulate_grad_batches` micro-batches that share one optimizer step.
1. Its loss is the sum of its token losses divided by its supervised tokens, so that its gradient is that of one batch of the
   same samples (Hugging Face transformers got this wrong until October 2024, pull requests 34191 and 34198).
2. The gradient is clipped once, when it is whole and, where a loss was scaled (fp16), unscaled.
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
from qtablate.train.distributed import SINGLE_PROCESS, ProcessGroup
from qtablate.train.noise import NoiseEstimate, NoiseMeter


@dataclass(frozen=True, slots=True)
class AccumulationRules:
    """How a window's micro-batches become one optimizer step; the defaults are the correct rules."""

    loss_norm: Literal["tokens", "micro_mean", "none"] = "tokens"
    """What a micro-batch's summed loss is divided by: `tokens`: the window's supervised tokens. Incorrect: `micro_mean`: its
    own tokens times the number of micro-batches; `none`: its own tokens alone."""
    clip_per: Literal["window", "micro_batch"] = "window"
    """When the gradient is clipped. Incorrect: `micro_batch`: after each backward pass."""
    lr_step_per: Literal["window", "micro_batch"] = "window"
    """When the schedule steps. Incorrect: `micro_batch`: as often as there are micro-batches."""
    max_grad_norm: float | None = None
    """None: no clipping, as in VideoChat2 (max_grad_norm -1)."""


class MicroBatch(Protocol):
    """What accumulation needs to know of a micro-batch."""

    @property
    def supervised_tokens(self) -> int:
        """Number of tokens that the loss is summed over, known before the forward pass."""
        ...


M = TypeVar("M", bound=MicroBatch)


@dataclass(frozen=True, slots=True)
class WindowGradient:
    """Figures of the gradient that a window left in `.grad`."""

    loss: float
    """Summed token loss / supervised tokens of the window, whatever the rules: it does not depend on the accumulation."""
    tokens: int
    """Supervised tokens of the window."""
    norm: float
    """Total norm before clipping at the window."""
    scale: float
    """Factor that clipping at the window multiplied the gradient by; 1 where it did nothing."""
    noise: NoiseEstimate | None = None
    """How the micro-batches' gradients differ, where a meter measured it."""

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are finite."""
        return math.isfinite(self.loss + self.norm)


NO_SCALING = GradScaler(enabled=False)
"""The scaler of losses that are not scaled: all of its methods do nothing."""


def accumulate(
    window: Sequence[M],
    loss_sum: Callable[[M], Tensor],
    parameters: Sequence[nn.Parameter],
    rules: AccumulationRules,
    *,
    scaler: GradScaler = NO_SCALING,
    optimizer: torch.optim.Optimizer | None = None,
    meter: NoiseMeter | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
    parts: Callable[[M], Sequence[M]] = lambda micro_batch: (micro_batch,),
) -> WindowGradient | None:
    """Leave the window's gradient in the parameters' `.grad`, which must be clear, and clip it.

    Args:
        window: micro-batches, this rank's share of each.
        loss_sum: the summed token loss of a micro-batch, with a graph.
        parameters: what is trained.
        rules: of accumulation.
        scaler: of fp16 losses. It unscales once, when the window is whole; the caller then steps and updates it once.
        optimizer: whose gradients the scaler unscales; needed where it is enabled.
        meter: measures each micro-batch's own gradient; valid where the rules are correct and there is one rank.
        group: the ranks that hold the other shares. Gradient and result are those of all shares, equal on every rank.
        parts: splits a micro-batch for want of memory. Its parts are computed one after another and are no micro-batches:
            nothing is divided, clipped, stepped or measured by them, so that under every rule the gradient is the same.

    Returns:
        None, with gradients untouched, when the window holds no supervised token. With an enabled scaler the norm may not
        be finite: then the scaler skips the optimizer's step, and the schedule must not step either.
    """
    counts = [int(count) for count in group.all_reduce_sums([micro_batch.supervised_tokens for micro_batch in window])]
    tokens = sum(counts)
    if tokens == 0:
        return None
    total = 0.0
    for micro_batch, count in zip(window, counts, strict=True):
        if count == 0:
            continue
        if micro_batch.supervised_tokens:
            divisor = {"tokens": tokens, "micro_mean": count * len(window), "none": count}[rules.loss_norm]
            for part in parts(micro_batch):
                if part.supervised_tokens:
                    loss = loss_sum(part)
                    total += float(loss.detach())
                    scaler.scale(loss / divisor).backward()
        if rules.clip_per == "micro_batch" and rules.max_grad_norm is not None:
            group.all_reduce_gradients(parameters)  # the norm is that of all shares
            nn.utils.clip_grad_norm_(parameters, rules.max_grad_norm * scaler.get_scale())
            if group.rank:
                clear_gradients(parameters)  # the first rank keeps the sum, and gradients are summed again below
        if meter:
            meter.observe(micro_batch.supervised_tokens, tokens)
    group.all_reduce_gradients(parameters)
    [total] = group.all_reduce_sums([total])
    if scaler.is_enabled():
        assert optimizer is not None
        scaler.scale(parameters[0].new_zeros(()))  # it must have scaled once, and a rank without tokens has not
        scaler.unscale_(optimizer)
    limit = math.inf if rules.max_grad_norm is None or rules.clip_per == "micro_batch" else rules.max_grad_norm
    norm = float(nn.utils.clip_grad_norm_(parameters, limit))
    noise = meter.estimate(norm, scaler.get_scale()) if meter else None
    return WindowGradient(total / tokens, tokens, norm, min(1.0, limit / (norm + 1e-6)), noise)


def validate_no_batch_statistics(model: nn.Module) -> None:
    """Check that no layer in training mode normalizes over samples: its statistics would depend on the micro-batch size.

    Raises:
        ModelError: names the layer.
    """
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and (layer.training or not layer.track_running_stats):
            raise ModelError(
                f"layer '{name}' is a {type(layer).__name__} in training mode: its statistics depend on the micro-batch "
                "size, so accumulation cannot equal a larger batch. Freeze it with .eval() or use LayerNorm or GroupNorm."
            )


def clear_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Remove the parameters' gradients."""
    for parameter in parameters:
        parameter.grad = None


def token_loss_sum(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy of (n, V) logits against (n,) tokens, computed in fp32 or better."""
    logits = logits if logits.dtype == torch.float64 else logits.float()
    return nn.functional.cross_entropy(logits, labels, reduction="sum")
