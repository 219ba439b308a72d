"""Whether a window's gradient is that of one batch, measured on a model and samples at hand.

What is measured is `accumulate` itself, as training calls it. The reference never passes through it: one forward pass of
all samples, the summed loss over its tokens, one backward pass; and the same of a copy of the model in fp64.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from qtablate.audit.records import (
    AGAIN,
    ALLOWED,
    BATCH,
    CLIPPED,
    FAULTS,
    HIGHER,
    WINDOW,
    Comparison,
    Difference,
    Measured,
    Memory,
    Window,
    allowed,
    at,
)
from qtablate.audit.trainer import through_trainer
from qtablate.datatypes import Sample
from qtablate.errors import DataError, ModelError
from qtablate.model.encode import Encoder
from qtablate.model.family import Family
from qtablate.train.accumulate import AccumulationRules, accumulate, clear_gradients, validate_no_batch_statistics
from qtablate.train.batches import MicroBatch, loss_sum, make_micro_batch
from qtablate.train.trainable import dropout_layers

COPY_BYTES = 400_000_000
"""A copy of the model in another precision is made up to this size."""
EXTRA = "extra_query_tokens"
FP16_SCALE = 2.0**10
"""Of fp16 losses: small gradients do not vanish, large ones do not overflow. A GradScaler finds its own in training."""

Gradients = Mapping[str, Tensor]
"""Of every trained parameter, by name."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in one precision, and how its loss is computed."""

    model: Family
    parameters: Mapping[str, nn.Parameter]
    """What is trained."""
    dtype: torch.dtype | None = None
    """What features are turned into; None: as they are."""
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    scale: float = 1.0
    """Of losses before their backward pass, as a GradScaler's; 1 but for fp16."""

    def loss(self, micro: MicroBatch) -> Tensor:
        """Summed token loss, with its graph."""
        if self.dtype:
            micro = replace(micro, features=[(rows, some.to(self.dtype)) for rows, some in micro.features])
        with self.autocast():
            return loss_sum(self.model, micro)

    def take(self) -> Gradients:
        """The gradients that stand in `.grad`, which is clear then."""
        found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in self.parameters.items()}
        clear_gradients(list(self.parameters.values()))
        return found


def audit(
    subject: Subject,
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    encoder: Encoder,
    micro_batch_size: int,
    accumulations: Sequence[int],
    longest: int,
    precision: str,
    max_grad_norm: float | None = None,
    trainer: bool = False,
) -> Measured:
    """Measure a window of each length in `accumulations` against one batch of the same samples, the first ones.

    Dropout is switched off in the model and stays so. The model's weights stay as they are.

    Args:
        subject: on the device where it computes, its trained parameters chosen.
        samples: at least micro_batch_size times the longest window.
        lookup: the features (N, D) of a clip.
        precision: that of the subject; decides what is allowed.
        trainer: whether to pass each window through transformers' Trainer too.

    Raises:
        DataError: a window holds no supervised token, or no gradient.
    """
    model = subject.model.train()
    dropped = dropout_layers(model)
    for layer in dropped.values():
        _switch_off(layer)
    padded = bool(encoder.reader and encoder.reader.padded_left)
    try:
        validate_no_batch_statistics(model)
    except ModelError as error:
        return Measured((), str(error), tuple(dropped), padded, {})
    references, missing = _references(subject, precision)

    def build(some: Sequence[Sample]) -> MicroBatch:
        return make_micro_batch(some, lookup, encoder, model.tokens_of, longest)

    windows = []
    for accumulation in accumulations:
        own = samples[: accumulation * micro_batch_size]
        micros = [build(own[start : start + micro_batch_size]) for start in range(0, len(own), micro_batch_size)]
        window = _measure(subject, references, micros, build(own), precision, max_grad_norm)
        if trainer:
            gradients = _window(subject, micros, AccumulationRules())
            through = through_trainer(model, subject.parameters, subject.loss, micros)
            compared = tuple(_compare(what, found, WINDOW, gradients) for what, found in through.items())
            window = replace(window, comparisons=window.comparisons + compared)
        windows.append(window)
    return Measured(tuple(windows), "", tuple(dropped), padded, missing)


def _measure(
    subject: Subject,
    references: Mapping[str, Subject],
    micros: Sequence[MicroBatch],
    one: MicroBatch,
    precision: str,
    max_grad_norm: float | None,
) -> Window:
    """Everything about one window. The first pass of each kind is counted, the second one timed."""
    tokens = tuple(micro.supervised_tokens for micro in micros)
    if not one.supervised_tokens:
        raise DataError(f"the first {len(one.samples)} samples hold no supervised token: there is no gradient to measure")
    kept: list[int] = []
    whole = _whole(subject, one, kept)
    saved_whole = kept.pop()
    window = _window(subject, micros, AccumulationRules(), kept)
    norm, extra = _norm(whole), whole.get(EXTRA)
    if norm == 0:
        raise DataError(f"the gradient of the first {len(one.samples)} samples is zero: there is nothing to compare")
    limit = max_grad_norm or norm / 2
    (again, batch_peak), batch_seconds = _timed(subject, lambda: _whole(subject, one))
    (clipped, peak), seconds = _timed(subject, lambda: _window(subject, micros, AccumulationRules(max_grad_norm=limit)))

    batches = {BATCH: whole, **{at(BATCH, dtype): _whole(reference, one) for dtype, reference in references.items()}}
    right = at(BATCH, "fp32") if "fp32" in references else BATCH
    higher = batches.get(at(BATCH, HIGHER[precision]))
    rounding = difference(whole.values(), higher.values()).relative if higher else None
    bound, scale = allowed(precision, rounding), min(1.0, limit / norm)
    found = [
        _compare(WINDOW, window, BATCH, whole, bound if right == BATCH else None),
        _compare(AGAIN, again, BATCH, whole),
        _compare(CLIPPED, clipped, right, {name: part * scale for name, part in batches[right].items()}, bound),
    ]
    for name, other in batches.items():
        if name != BATCH:
            found.append(_compare(WINDOW, window, name, other, bound if name == right else None))
            found.append(_compare(BATCH, whole, name, other))
    if "fp64" in references:
        exact = _window(references["fp64"], micros, AccumulationRules())
        found.append(_compare(at(WINDOW, "fp64"), exact, at(BATCH, "fp64"), batches[at(BATCH, "fp64")], ALLOWED["fp64"]))
    faults = (
        (AccumulationRules(loss_norm="micro_mean"), window),
        (AccumulationRules(loss_norm="none"), window),
        (AccumulationRules(clip_per="micro_batch", max_grad_norm=limit), clipped),
    )
    for name, (rules, proper) in zip(FAULTS, faults, strict=True):
        found.append(_compare(name, _window(subject, micros, rules), WINDOW, proper))
    return Window(
        tuple(sample.id for sample in one.samples),
        tokens,
        norm,
        None if extra is None else float(extra.norm()),
        limit,
        tuple(found),
        Memory(max(kept), peak),
        Memory(saved_whole, batch_peak),
        seconds,
        batch_seconds,
    )


def _whole(subject: Subject, one: MicroBatch, kept: list[int] | None = None) -> Gradients:
    """The gradient of one batch: no accumulation, its loss over its tokens."""
    clear_gradients(list(subject.parameters.values()))
    loss = _counted(subject, kept)(one)
    (loss * subject.scale / one.supervised_tokens).backward()
    return {name: gradient / subject.scale for name, gradient in subject.take().items()}


def _window(
    subject: Subject, micros: Sequence[MicroBatch], rules: AccumulationRules, kept: list[int] | None = None
) -> Gradients:
    """The gradient that `accumulate` leaves."""
    trained = list(subject.parameters.values())
    clear_gradients(trained)
    scaler = GradScaler(subject.model.device.type, subject.scale, enabled=subject.scale != 1)
    optimizer = torch.optim.SGD(trained, lr=0.0)  # for its parameters alone
    accumulate(micros, _counted(subject, kept), trained, rules, scaler=scaler, optimizer=optimizer)
    return subject.take()


def _counted(subject: Subject, kept: list[int] | None) -> Callable[[MicroBatch], Tensor]:
    """The loss; with a list to append to, the bytes that it keeps for the backward pass are counted."""
    if kept is None:
        return subject.loss

    def loss(micro: MicroBatch) -> Tensor:
        with saved_bytes(subject.model) as storages:
            found = subject.loss(micro)
        kept.append(sum(storages.values()))
        return found

    return loss


@contextmanager
def saved_bytes(model: nn.Module) -> Iterator[dict[int, int]]:
    """Bytes that forward passes in this block keep for their backward passes, by storage, without the model's own tensors.

    The same on every device: what autograd saves, not what an allocator holds. Where activations are computed again
    (checkpointing), only what is kept until then counts.
    """
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def _timed(subject: Subject, run: Callable[[], Gradients]) -> tuple[tuple[Gradients, int | None], float]:
    """((gradient, bytes added on a GPU at the peak), seconds)"""
    device = subject.model.device
    cuda, before = device.type == "cuda", 0
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
    began = time.perf_counter()
    found = run()
    if cuda:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    return (found, torch.cuda.max_memory_allocated(device) - before if cuda else None), seconds


def _references(subject: Subject, precision: str) -> tuple[dict[str, Subject], dict[str, str]]:
    """Copies of the model in higher precisions, and why there is none where it would be too large."""
    found, missing = {}, {}
    numbers = sum(parameter.numel() for parameter in subject.model.parameters())
    for name, dtype in {"fp32": torch.float32, "fp64": torch.float64}.items():
        size = numbers * dtype.itemsize
        if name == precision:
            continue
        if size > COPY_BYTES:
            missing[name] = f"a copy of the model would take {size / 1e9:.2g} GB, more than {COPY_BYTES / 1e9:g} GB"
            continue
        found[name] = Subject(*_copied(subject, dtype), dtype)
    return found, missing


def _copied(subject: Subject, dtype: torch.dtype) -> tuple[Family, dict[str, nn.Parameter]]:
    model = copy.deepcopy(subject.model).to(dtype=dtype)
    for layer in model.modules():
        if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
            # transformers' own computes in fp32 whatever it is given
            weight = cast(Tensor, layer.weight)
            layer.forward = partial(
                nn.functional.rms_norm, normalized_shape=weight.shape, weight=weight, eps=cast(float, layer.variance_epsilon)
            )
    named = dict(model.named_parameters())
    return model, {name: named[name] for name in subject.parameters}


def _switch_off(layer: nn.Module) -> None:
    for name in ("p", "attention_dropout"):
        if hasattr(layer, name):
            setattr(layer, name, 0.0)


def _compare(what: str, a: Gradients, against: str, b: Gradients, bound: float | None = None) -> Comparison:
    extra = difference([a[EXTRA]], [b[EXTRA]]) if EXTRA in b else None
    return Comparison(what, against, difference(a.values(), (b[name] for name in a)), extra, bound)


def difference(a: Iterable[Tensor], b: Iterable[Tensor]) -> Difference:
    """Of one gradient from another, each in the same parts; sums in fp64."""
    apart = own = other = inner = 0.0
    for x, y in zip(a, b, strict=True):
        x, y = x.double(), y.double()
        apart += float((x - y).square().sum())
        own += float(x.square().sum())
        other += float(y.square().sum())
        inner += float((x * y).sum())
    if not other or not own:
        return Difference(0.0 if own == other else math.inf, 1.0 if own == other else 0.0)
    return Difference(math.sqrt(apart / other), min(1.0, inner / math.sqrt(own * other)))


def _norm(gradients: Gradients) -> float:
    return math.sqrt(sum(float(one.double().square().sum()) for one in gradients.values()))
