"""The training loop of one cell. Reads from top to bottom; what is frozen is said by `choose_trainable`."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from qtablate.datatypes import IMAGE, Sample
from qtablate.errors import QtablateError
from qtablate.model.encode import Encoder
from qtablate.model.family import Family
from qtablate.model.similarity import cosine, effective_rank
from qtablate.model.videochat2 import DropPath
from qtablate.train.accumulate import UNSCALED, Gradient, Rules, accumulate, clear, optimizer_steps, refuse_batch_statistics
from qtablate.train.batches import MicroBatch, loss_sum, micro_batch
from qtablate.train.distributed import ALONE, Ranks
from qtablate.train.noise import LARGEST, NoiseMeter
from qtablate.train.schedule import learning_rate


@dataclass(frozen=True, slots=True)
class Step:
    """One window, which is one optimizer step unless it was skipped: a row of train.csv."""

    step: int
    samples_seen: int
    supervised_tokens: int
    """In this window; zero when it was skipped because it held none."""
    loss: float | None
    grad_norm: float | None
    """Missing where the gradient was not finite, and no step was taken (fp16)."""
    extra_grad_norm: float | None
    """Of the extra query tokens' own gradient, before clipping, as grad_norm is."""
    extra_update: float | None
    """How far this step moved the extra query tokens, relative to their norm before it; missing from zero."""
    query_update: float | None
    """The same of the base queries."""
    extra_cosine: float | None
    """Mean over pairs of extra query tokens, behind this step."""
    extra_rank: float | None
    """Their effective rank, behind this step."""
    grad_signal: float | None
    """Estimate of the squared norm of the mean gradient (train/noise.py)."""
    grad_noise: float | None
    """Estimate of the variance (trace) of one sample's gradient."""
    lr: float
    image_ratio: float
    seconds: float
    truncated_samples: int
    """Conversations that were longer than `longest` tokens and lost their end."""


OVERFLOWS = 40
"""Windows in a row without a finite gradient before a run is given up: a GradScaler comes from 2^16 to 2^-24 meanwhile."""


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
    extra_lr: float = 1.0
    """The extra query tokens' learning rate as a multiple of the others'."""
    mixed_micro_batches: bool = True
    """Whether each holds every medium there is: those of one medium scatter more than their samples do, so that the
    gradient's noise cannot be told from them."""


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


def optimizer_for(parameters: Mapping[str, nn.Parameter], plan: Plan) -> torch.optim.AdamW:
    """AdamW with decay on matrices only: not on biases, norms and other one-dimensional parameters, nor on queries. A group's
    `factor` is what its learning rate is a multiple of the schedule's by."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": plan.weight_decay, "factor": 1.0},
        {"params": [], "weight_decay": 0.0, "factor": 1.0},
        {"params": [], "weight_decay": 0.0, "factor": plan.extra_lr},
    ]
    for name, parameter in parameters.items():
        decayed = parameter.dim() == 2 and "query_tokens" not in name
        groups[2 if name == "extra_query_tokens" else 0 if decayed else 1]["params"].append(parameter)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=plan.learning_rate, betas=plan.betas)


class Training:
    """Trains on the samples in their order, once. Iterating gives what each window did, right after it; between two of them
    `state` holds all that a later `restore` of a Training of the same arguments needs to go on bit for bit.

    Several ranks are given the same arguments, iterate in step and give equal rows but for their times; the state of the
    first restores all. The gradient's noise is not measured then: their gradients meet once a window only."""

    def __init__(
        self,
        model: Family,
        parameters: dict[str, nn.Parameter],
        samples: Sequence[Sample],
        lookup: Callable[[str], Tensor],
        encoder: Encoder,
        plan: Plan,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        scaler: GradScaler = UNSCALED,
        ranks: Ranks = ALONE,
    ) -> None:
        self.model, self.parameters, self.samples, self.plan, self._ranks = model, parameters, samples, plan, ranks
        self._lookup, self._encoder, self._autocast, self._scaler = lookup, encoder, autocast, scaler
        self._trained = list(parameters.values())
        self._extra = parameters.get("extra_query_tokens")
        self._optimizer = optimizer_for(parameters, plan)
        micro_batches = -(-len(samples) // plan.micro_batch_size)
        self.steps = optimizer_steps(micro_batches, plan.accumulate_grad_batches)
        self._schedule_steps = self.steps if plan.rules.lr_step_per == "window" else micro_batches
        self._step = self._seen = self._scheduled = 0
        self._overflows = 0  # in a row
        right = plan.rules.loss_norm == "tokens" and plan.rules.clip_per == "window" and plan.mixed_micro_batches
        size = sum(parameter.numel() for parameter in self._trained)
        self._measures_noise = right and plan.accumulate_grad_batches > 1 and size <= LARGEST and ranks.world == 1

    def __iter__(self) -> Iterator[Step]:
        self.model.train()
        refuse_batch_statistics(self.model)
        self._ranks.refuse_unequal(self.parameters, step=self._step, samples=len(self.samples))
        while self._step < self.steps:
            yield self._window()

    def state(self) -> dict[str, Any]:
        """Tensors, numbers and plain containers, so that it loads with weights_only=True."""
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        return {
            "step": self._step,
            "seen": self._seen,
            "scheduled": self._scheduled,
            "parameters": {name: parameter.detach() for name, parameter in self.parameters.items()},
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state_all() if cuda else [],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        self._step, self._seen, self._scheduled = state["step"], state["seen"], state["scheduled"]
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(state["parameters"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"]:
            torch.cuda.set_rng_state_all(state["random_cuda"])

    def _window(self) -> Step:
        began = time.perf_counter()
        plan, extra = self.plan, self._extra
        size = plan.micro_batch_size * plan.accumulate_grad_batches
        samples = self.samples[self._step * size : (self._step + 1) * size]
        window = [
            micro_batch(self._ranks.share(some), self._lookup, self._encoder, self.model.tokens_of, plan.longest)
            for some in _split(samples, plan.micro_batch_size)
        ]
        lr = learning_rate(self._scheduled, self._schedule_steps, plan.learning_rate, plan.warm_up, plan.min_lr_ratio)
        clear(self._trained)
        base = self.parameters.get("query_tokens")
        before = [one.detach().clone() if one is not None else None for one in (base, extra)]
        self._ranks.draw_apart(self._step)
        meter = NoiseMeter(self._trained) if self._measures_noise else None
        gradient = accumulate(
            window,
            self._loss,
            self._trained,
            plan.rules,
            scaler=self._scaler,
            optimizer=self._optimizer,
            meter=meter,
            ranks=self._ranks,
        )
        [cut] = self._ranks.total([sum(micro.text.cut for micro in window)])
        extra_norm = _extra_norm(extra, gradient)
        stepped = gradient is not None and self._take(gradient, lr)
        if stepped:
            self._scheduled += 1 if plan.rules.lr_step_per == "window" else len(window)
        self._step += 1
        self._seen += len(samples)
        seconds = time.perf_counter() - began - (meter.seconds if meter else 0.0)  # of training, not of looking at it
        noise = gradient.noise if gradient else None
        return Step(
            step=self._step - 1,
            samples_seen=self._seen,
            supervised_tokens=gradient.tokens if gradient else 0,
            loss=gradient.loss if gradient else None,
            grad_norm=gradient.norm if gradient and stepped else None,
            extra_grad_norm=extra_norm if stepped else None,
            extra_update=_update(before[1], extra) if stepped else None,
            query_update=_update(before[0], base) if stepped else None,
            extra_cosine=cosine(extra.detach()[0].cpu()) if extra is not None else None,
            extra_rank=_rank(extra),
            grad_signal=noise.signal if noise else None,
            grad_noise=noise.variance * len(samples) / gradient.tokens if noise and gradient else None,
            lr=lr,
            image_ratio=sum(sample.medium == IMAGE for sample in samples) / len(samples),
            seconds=seconds,
            truncated_samples=int(cut),
        )

    def _loss(self, micro: MicroBatch) -> Tensor:
        with self._autocast():
            return loss_sum(self.model, micro)

    def _take(self, gradient: Gradient, lr: float) -> bool:
        """The optimizer's step; False where fp16 overflowed: then nothing but the scale changes."""
        if not gradient.finite and not self._scaler.is_enabled():
            raise QtablateError(
                f"training diverged: loss or gradient not finite at step {self._step}; lower --lr or clip gradients"
            )
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group["factor"]
        if not self._scaler.is_enabled():
            self._optimizer.step()
            return True
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._overflows = 0 if gradient.finite else self._overflows + 1
        if self._overflows == OVERFLOWS:
            raise QtablateError(
                f"training diverged: {OVERFLOWS} windows in a row, until step {self._step}, had gradients that are not finite "
                "in fp16, whatever losses were scaled by; lower --lr, clip gradients or use --precision bf16"
            )
        return gradient.finite


def _split(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _extra_norm(extra: nn.Parameter | None, gradient: Gradient | None) -> float | None:
    if extra is None or gradient is None or extra.grad is None or not gradient.finite:
        return None
    return float(extra.grad.norm()) / gradient.scale


def _rank(extra: nn.Parameter | None) -> float | None:
    return effective_rank(extra.detach()[0].cpu()) if extra is not None and bool(extra.any()) else None


def _update(before: Tensor | None, after: Tensor | None) -> float | None:
    if before is None or after is None or not before.any():
        return None
    return float((after.detach() - before).norm() / before.norm())
