"""The training loop of one cell. Reads from top to bottom; what is frozen is said by `choose_trainable`."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qtablate.bench.items import Sample
from qtablate.errors import QtablateError
from qtablate.model.encode import Encoder
from qtablate.model.family import Family
from qtablate.model.videochat2 import DropPath
from qtablate.train.accumulate import Rules, accumulate, clear, optimizer_steps, refuse_batch_statistics
from qtablate.train.batches import MicroBatch, loss_sum, micro_batch
from qtablate.train.schedule import learning_rate


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: a row of train.csv."""

    step: int
    samples_seen: int
    supervised_tokens: int
    """In this window; zero when it was skipped because it held none."""
    loss: float | None
    grad_norm: float | None
    extra_grad_norm: float | None
    """Of the extra query tokens' own gradient, before clipping, as grad_norm is."""
    lr: float
    image_fraction: float
    seconds: float
    samples_cut: int
    """Conversations that were longer than `longest` tokens and lost their end."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run trains: everything but the model and the data."""

    micro_batch_size: int
    accumulate_grad_batches: int
    learning_rate: float
    warm_up: float
    min_lr_ratio: float
    weight_decay: float
    betas: tuple[float, float]
    longest: int
    rules: Rules


def choose_trainable(model: Family, language_model: bool, adapter: bool = False) -> dict[str, nn.Parameter]:
    """Freeze the vision encoder and, unless asked, the language model and its adapter; train Q-Former, queries and projection.

    Where the Q-Former reads no text, its text path (embeddings and the feed-forwards beside the queries' own) has no input,
    so it would only inflate the count of trainable parameters.
    """
    out: dict[str, nn.Parameter] = {}
    silent = not getattr(model.config, "qformer_text", False)
    unused = (
        "embeddings.word_embeddings",
        "embeddings.position_embeddings",
        ".intermediate.",
        ".output.dense",
        ".output.LayerNorm",
    )
    for name, parameter in model.named_parameters():
        part, _, rest = name.partition(".")
        text_path = part == "qformer" and "attention." not in rest and any(mark in rest for mark in unused)
        trained = part in (*model.bridge, "query_tokens", "extra_query_tokens") and not (text_path and silent)
        trained |= part == "language_model" and (adapter if ".lora_" in rest else language_model)
        parameter.requires_grad_(trained)
        if trained:
            out[name] = parameter
    return out


def drops_out(model: nn.Module) -> bool:
    """Whether training draws random masks: they depend on how a batch is split, so that no two splits coincide."""
    return bool(dropping(model))


def dropping(model: nn.Module) -> dict[str, nn.Module]:
    """The layers that draw random masks, by name."""
    running = {name: layer for name, layer in model.named_modules() if not name.startswith("vision.")}  # that one is cached
    return {name: one for name, one in running.items() if _masks(one) or getattr(one, "attention_dropout", 0) > 0}


def _masks(layer: nn.Module) -> bool:
    return isinstance(layer, (nn.modules.dropout._DropoutNd, DropPath)) and layer.p > 0


def optimizer_for(parameters: dict[str, nn.Parameter], plan: Plan) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: not on biases, norms and other one-dimensional parameters, nor on queries."""
    decayed = [p for name, p in parameters.items() if p.dim() == 2 and "query_tokens" not in name]
    others = [p for name, p in parameters.items() if not (p.dim() == 2 and "query_tokens" not in name)]
    groups = [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, betas=plan.betas)


def train(
    model: Family,
    parameters: dict[str, nn.Parameter],
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    encoder: Encoder,
    plan: Plan,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> Iterator[Step]:
    """Train on the samples in their order, once; yields after each optimizer step."""

    def loss(micro: MicroBatch) -> Tensor:
        with autocast():
            return loss_sum(model, micro)

    model.train()
    refuse_batch_statistics(model)
    optimizer = optimizer_for(parameters, plan)
    trained = list(parameters.values())
    extra = parameters.get("extra_query_tokens")
    size, accumulation = plan.micro_batch_size, plan.accumulate_grad_batches
    starts = range(0, len(samples), size)
    steps = optimizer_steps(len(starts), accumulation)
    schedule_steps = steps if plan.rules.schedule_at == "window" else len(starts)
    seen = scheduled = 0
    for step in range(steps):
        began = time.perf_counter()
        window = [
            micro_batch(samples[at : at + size], lookup, encoder, model.tokens_of, plan.longest)
            for at in starts[step * accumulation : (step + 1) * accumulation]
        ]
        seen += sum(len(micro.samples) for micro in window)
        lr = learning_rate(scheduled, schedule_steps, plan.learning_rate, plan.warm_up, plan.min_lr_ratio)
        scheduled += 1 if plan.rules.schedule_at == "window" else len(window)
        clear(trained)
        gradient = accumulate(window, loss, trained, plan.rules)
        if gradient is not None and not math.isfinite(gradient.loss + gradient.norm):
            raise QtablateError(f"training diverged: loss or gradient not finite at step {step}; lower --lr or clip gradients")
        if gradient is not None:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        yield Step(
            step=step,
            samples_seen=seen,
            supervised_tokens=gradient.tokens if gradient else 0,
            loss=gradient.loss if gradient else None,
            grad_norm=gradient.norm if gradient else None,
            extra_grad_norm=float(extra.grad.norm()) / gradient.scale
            if gradient and extra is not None and extra.grad is not None
            else None,
            lr=lr,
            image_fraction=sum(micro.image_fraction * len(micro.samples) for micro in window)
            / sum(len(micro.samples) for micro in window),
            seconds=time.perf_counter() - began,
            samples_cut=sum(micro.text.cut for micro in window),
        )
