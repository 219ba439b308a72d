"""The training loop of one cell. Reads from top to bottom; choose_trainable (trainable.py) says what is frozen."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qtablate.datatypes import IMAGE, Sample
from qtablate.errors import QtablateError
from qtablate.model.encode import ConversationEncoder
from qtablate.model.similarity import cosine, effective_rank
from qtablate.model.video_lm import VideoLM
from qtablate.train.accumulate import (
    NO_SCALING,
    AccumulationRules,
    WindowGradient,
    accumulate,
    clear_gradients,
    validate_no_batch_statistics,
)
from qtablate.train.batches import MicroBatch, loss_sum, make_micro_batch, split_micro_batch
from qtablate.train.device import ComputeContext
from qtablate.train.distributed import SINGLE_PROCESS, ProcessGroup
from qtablate.train.noise import MAX_PARAMETERS, NoiseMeter
from qtablate.train.schedule import learning_rate, optimizer_steps
from qtablate.train.trainable import build_optimizer

CPU_FP32 = ComputeContext(torch.device("cpu"), nullcontext, NO_SCALING)
"""The context of a model that is not moved and computes in its own precision."""

MAX_OVERFLOWS = 40
"""Windows in a row without a finite gradient until a run is given up: a GradScaler comes from 2^16 to 2^-24 meanwhile."""


@dataclass(frozen=True, slots=True)
class Step:
    """One window, which is one optimizer step unless it was skipped: a row of train.csv."""

    step: int
    samples_seen: int
    supervised_tokens: int
    """In this window; zero when it was skipped because it held none."""
    loss: float | None
    grad_norm: float | None
    """None where the gradient was not finite, and no step was taken (fp16)."""
    extra_grad_norm: float | None
    """Of the extra query tokens' own gradient, before clipping, as grad_norm is."""
    extra_update: float | None
    """Distance that this step moved the extra query tokens, relative to their norm before it; None from zero."""
    query_update: float | None
    """The same of the base queries."""
    extra_cosine: float | None
    """Mean cosine over pairs of extra query tokens, after this step."""
    extra_rank: float | None
    """Effective rank of the extra query tokens, after this step."""
    grad_signal: float | None
    """Estimate of the squared norm of the mean gradient (train/noise.py)."""
    grad_noise: float | None
    """Estimate of the variance (trace) of one sample's gradient."""
    lr: float
    image_ratio: float
    """Share of images among the samples."""
    seconds: float
    """Of training, without measuring the noise."""
    truncated_samples: int
    """Conversations that were longer than `max_text_tokens` and lost their end."""
    micro_batch_parts: int = 1
    """Parts that each micro-batch was computed in."""


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """How a run trains: everything but the model and the data."""

    micro_batch_size: int
    accumulate_grad_batches: int
    learning_rate: float
    """At its peak."""
    warmup_ratio: float
    """Share of the optimizer steps."""
    min_lr_ratio: float
    """The last learning rate as a share of the peak."""
    weight_decay: float
    betas: tuple[float, float]
    """Of AdamW."""
    max_text_tokens: int
    """Text tokens of a sequence at most, beside the visual ones."""
    rules: AccumulationRules
    extra_lr: float = 1.0
    """The extra query tokens' learning rate as a multiple of the others'."""
    mixed_micro_batches: bool = True
    """Whether each micro-batch holds every medium there is. Gradients of micro-batches of one medium scatter more than those
    of their samples do, so the gradient's noise cannot be estimated from them."""

    micro_batch_parts: int = 1
    """Parts that each micro-batch is computed in, for want of memory (accumulate.py). Without dropout nothing depends on it."""

    @property
    def window(self) -> int:
        """Samples of a whole window."""
        return self.micro_batch_size * self.accumulate_grad_batches

    @property
    def measures_noise(self) -> bool:
        """Whether the micro-batches' gradients estimate the gradient noise."""
        correct = self.rules.loss_norm == "tokens" and self.rules.clip_per == "window"
        return correct and self.mixed_micro_batches and self.accumulate_grad_batches > 1


class Training:
    """Trains on the samples in their order, once. Iterating yields what each window did, right after it.

    Between two windows `state` holds all that a later `restore` of a Training of the same arguments needs to go on bit for bit.

    Several ranks are given the same arguments, iterate in step and yield equal rows but for their times; the state of the
    first restores all. The gradient's noise is not measured then: their gradients meet once per window only.
    """

    def __init__(
        self,
        model: VideoLM,
        parameters: dict[str, nn.Parameter],
        samples: Sequence[Sample],
        lookup: Callable[[str], Tensor],
        encoder: ConversationEncoder,
        plan: TrainPlan,
        compute: ComputeContext = CPU_FP32,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        """Prepare a run; nothing is computed yet.

        Args:
            model: what is trained.
            parameters: those that are trained, by name (choose_trainable).
            samples: in the order of training, all windows together.
            lookup: gives a clip's frozen features (N, D).
            encoder: of texts.
            plan: how to train.
            compute: autocast and loss scaling.
            group: the ranks that train together.
        """
        self.model, self.parameters, self.samples, self.plan = model, parameters, samples, plan
        self._lookup, self._encoder, self._compute, self._group = lookup, encoder, compute, group
        self._scaler = compute.scaler
        self._trained = list(parameters.values())
        self._extra = parameters.get("extra_query_tokens")
        self._optimizer = build_optimizer(parameters, plan.learning_rate, plan.weight_decay, plan.betas, plan.extra_lr)
        self.steps = optimizer_steps(len(samples), plan.micro_batch_size, plan.accumulate_grad_batches)
        per_window = plan.rules.lr_step_per == "window"
        self._schedule_steps = self.steps if per_window else optimizer_steps(len(samples), plan.micro_batch_size, 1)
        self._step = self._seen = self._scheduled = 0
        self._overflows = 0  # in a row
        small = sum(parameter.numel() for parameter in self._trained) <= MAX_PARAMETERS
        self._measures_noise = plan.measures_noise and small and group.world_size == 1

    def __iter__(self) -> Iterator[Step]:
        self.model.train()
        validate_no_batch_statistics(self.model)
        self._group.validate_equal_start(self.parameters, step=self._step, samples=len(self.samples))
        while self._step < self.steps:
            yield self._train_window()

    def state(self) -> dict[str, Any]:
        """Return the run's state: tensors, numbers and plain containers, so that it loads with weights_only=True."""
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
        """Go back to a state that `state` returned."""
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

    def _train_window(self) -> Step:
        """Train on the next window: its micro-batches, one gradient, one optimizer step."""
        began = time.perf_counter()
        plan, extra, base = self.plan, self._extra, self.parameters.get("query_tokens")
        samples = self.samples[self._step * plan.window : (self._step + 1) * plan.window]
        window = [self._micro_batch(chunk) for chunk in _chunks(samples, plan.micro_batch_size)]
        lr = learning_rate(self._scheduled, self._schedule_steps, plan.learning_rate, plan.warmup_ratio, plan.min_lr_ratio)
        clear_gradients(self._trained)
        extra_before, base_before = _copy(extra), _copy(base)
        self._group.seed_dropout(self._step)
        meter = NoiseMeter(self._trained) if self._measures_noise else None
        gradient = accumulate(
            window,
            self._loss,
            self._trained,
            plan.rules,
            scaler=self._scaler,
            optimizer=self._optimizer,
            meter=meter,
            group=self._group,
            parts=lambda micro_batch: split_micro_batch(micro_batch, plan.micro_batch_parts),
        )
        [truncated] = self._group.all_reduce_sums([sum(micro_batch.text.truncated for micro_batch in window)])
        extra_norm = _extra_norm(extra, gradient)
        stepped = gradient is not None and self._optimizer_step(gradient, lr)
        if stepped:
            self._scheduled += 1 if plan.rules.lr_step_per == "window" else len(window)
        self._step += 1
        self._seen += len(samples)
        seconds = time.perf_counter() - began - (meter.seconds if meter else 0.0)
        noise = gradient.noise if gradient else None
        return Step(
            step=self._step - 1,
            samples_seen=self._seen,
            supervised_tokens=gradient.tokens if gradient else 0,
            loss=gradient.loss if gradient else None,
            grad_norm=gradient.norm if gradient and stepped else None,
            extra_grad_norm=extra_norm if stepped else None,
            extra_update=_relative_update(extra_before, extra) if stepped else None,
            query_update=_relative_update(base_before, base) if stepped else None,
            extra_cosine=cosine(extra.detach()[0].cpu()) if extra is not None else None,
            extra_rank=effective_rank(extra.detach()[0].cpu()) if extra is not None and bool(extra.any()) else None,
            grad_signal=noise.signal if noise else None,
            grad_noise=noise.variance * len(samples) / gradient.tokens if noise and gradient else None,
            lr=lr,
            image_ratio=sum(sample.medium == IMAGE for sample in samples) / len(samples),
            seconds=seconds,
            truncated_samples=int(truncated),
            micro_batch_parts=plan.micro_batch_parts,
        )

    def _micro_batch(self, samples: Sequence[Sample]) -> MicroBatch:
        """Build this rank's share of a micro-batch."""
        share = self._group.local_share(samples)
        return make_micro_batch(share, self._lookup, self._encoder, self.model.count_visual_tokens, self.plan.max_text_tokens)

    def _loss(self, micro_batch: MicroBatch) -> Tensor:
        with self._compute.autocast():
            return loss_sum(self.model, micro_batch)

    def _optimizer_step(self, gradient: WindowGradient, lr: float) -> bool:
        """Step the optimizer; False where fp16 overflowed: then nothing but the scale changes.

        Raises:
            QtablateError: the gradient is not finite and nothing scales it, or too many in a row were not.
        """
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
        if self._overflows == MAX_OVERFLOWS:
            raise QtablateError(
                f"training diverged: {MAX_OVERFLOWS} windows in a row, until step {self._step}, had gradients that are not "
                "finite in fp16, whatever losses were scaled by; lower --lr, clip gradients or use --precision bf16"
            )
        return gradient.finite


def _chunks(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    for start in range(0, len(samples), size):
        yield samples[start : start + size]


def _copy(parameter: nn.Parameter | None) -> Tensor | None:
    return parameter.detach().clone() if parameter is not None else None


def _extra_norm(extra: nn.Parameter | None, gradient: WindowGradient | None) -> float | None:
    """Return the norm of the extra query tokens' gradient before clipping."""
    if extra is None or gradient is None or extra.grad is None or not gradient.finite:
        return None
    return float(extra.grad.norm()) / gradient.scale


def _relative_update(before: Tensor | None, after: Tensor | None) -> float | None:
    if before is None or after is None or not before.any():
        return None
    return float((after.detach() - before).norm() / before.norm())
