"""Measures whether the gradient of an accumulation window is that of one batch, on a given model and samples.

The window goes through `accumulate`, exactly as in training. The reference does not: it is one forward pass of all samples, the
summed loss over its tokens and one backward pass; and the same of a copy of the model in fp64.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.amp import GradScaler

from qtablate.audit.instruments import saved_bytes, timed
from qtablate.audit.records import (
    BATCH,
    CLIPPED,
    HIGHER_PRECISION,
    INCORRECT_RULES,
    REPEAT,
    TOLERANCE,
    WINDOW,
    Comparison,
    Difference,
    Measurement,
    Memory,
    Window,
    in_precision,
    tolerance,
)
from qtablate.audit.target import Gradients, Target, references
from qtablate.audit.trainer import trainer_gradients
from qtablate.datatypes import Sample
from qtablate.errors import DataError, ModelError
from qtablate.model.dropout import disable_dropout, dropout_layers
from qtablate.model.encode import ConversationEncoder
from qtablate.train.accumulate import AccumulationRules, accumulate, clear_gradients, validate_no_batch_statistics
from qtablate.train.batches import MicroBatch, make_micro_batch

EXTRA = "extra_query_tokens"


@dataclass(frozen=True, slots=True)
class Settings:
    """What is measured."""

    micro_batch_size: int
    accumulations: Sequence[int]
    """Numbers of micro-batches per window."""
    max_text_tokens: int
    precision: str
    """Precision of the target; it decides the tolerance."""
    max_grad_norm: float | None = None
    """None: clipping is compared at half the norm of the gradient."""
    trainer: bool = False
    """Whether each window also goes through transformers' Trainer."""


def audit(
    target: Target, samples: Sequence[Sample], lookup: Callable[[str], Tensor], encoder: ConversationEncoder, settings: Settings
) -> Measurement:
    """Measure a window of each length against one batch of the same samples, the first ones.

    Dropout is disabled in the model and stays disabled. The weights do not change.

    Args:
        target: The model on the device where it computes, its trained parameters chosen.
        samples: At least micro_batch_size times the longest window.
        lookup: Returns the features (N, D) of a clip.
        encoder: Encodes conversations.
        settings: What is measured.

    Raises:
        DataError: A window has no supervised token, or its gradient is zero.
    """
    model = target.model.train()
    dropout = dropout_layers(model)
    for layer in dropout.values():
        disable_dropout(layer)
    padded_left = bool(encoder.qformer_tokenizer and encoder.qformer_tokenizer.pad_left)
    try:
        validate_no_batch_statistics(model)
    except ModelError as error:
        return Measurement((), str(error), tuple(dropout), padded_left, {})
    copies, missing = references(target, settings.precision)

    def build(part: Sequence[Sample]) -> MicroBatch:
        return make_micro_batch(part, lookup, encoder, model.count_visual_tokens, settings.max_text_tokens)

    windows, size = [], settings.micro_batch_size
    for accumulation in settings.accumulations:
        own = samples[: accumulation * size]
        micros = [build(own[start : start + size]) for start in range(0, len(own), size)]
        window = _measure(target, copies, micros, build(own), settings)
        if settings.trainer:
            window = replace(window, comparisons=(*window.comparisons, *_against_trainer(target, micros)))
        windows.append(window)
    return Measurement(tuple(windows), "", tuple(dropout), padded_left, missing)


def _measure(
    target: Target, copies: Mapping[str, Target], micros: Sequence[MicroBatch], batch: MicroBatch, settings: Settings
) -> Window:
    """Measure one window. The first pass of each kind counts activations, the second one is timed."""
    if not batch.supervised_tokens:
        raise DataError(f"the first {len(batch.samples)} samples hold no supervised token: there is no gradient to measure")
    window_saved: list[int] = []
    batch_saved: list[int] = []
    batch_gradient = _batch_gradient(target, batch, batch_saved)
    window_gradient = _window_gradient(target, micros, AccumulationRules(), window_saved)
    norm, extra = _norm(batch_gradient), batch_gradient.get(EXTRA)
    if norm == 0:
        raise DataError(f"the gradient of the first {len(batch.samples)} samples is zero: there is nothing to compare")
    limit = settings.max_grad_norm or norm / 2
    device = target.model.device
    repeat = timed(device, lambda: _batch_gradient(target, batch))
    clipped = timed(device, lambda: _window_gradient(target, micros, AccumulationRules(max_grad_norm=limit)))

    batches = {in_precision(BATCH, name): _batch_gradient(reference, batch) for name, reference in copies.items()}
    compared = _compare_with_batches(
        {WINDOW: window_gradient, CLIPPED: clipped.result, BATCH: batch_gradient, REPEAT: repeat.result},
        batches,
        min(1.0, limit / norm),
        settings.precision,
    )
    if "fp64" in copies:
        exact, reference = in_precision(WINDOW, "fp64"), in_precision(BATCH, "fp64")
        exact_gradient = _window_gradient(copies["fp64"], micros, AccumulationRules())
        compared.append(_compare(exact, exact_gradient, reference, batches[reference], TOLERANCE["fp64"]))
    compared += _incorrect_rules(target, micros, limit, window_gradient, clipped.result)
    return Window(
        tuple(sample.id for sample in batch.samples),
        tuple(micro.supervised_tokens for micro in micros),
        norm,
        None if extra is None else float(extra.norm()),
        limit,
        tuple(compared),
        Memory(max(window_saved), clipped.cuda_peak),
        Memory(batch_saved[0], repeat.cuda_peak),
        clipped.seconds,
        repeat.seconds,
    )


def _compare_with_batches(
    gradients: Mapping[str, Gradients], batches: Mapping[str, Gradients], clip_scale: float, precision: str
) -> list[Comparison]:
    """Compare window and batch in the audit's precision with each other and with one batch in each higher precision.

    Args:
        gradients: WINDOW, CLIPPED, BATCH and REPEAT in the precision of the audit.
        batches: One batch in the higher precisions.
        clip_scale: Factor by which clipping scales the gradient.
        precision: The precision of the audit.
    """
    window, batch = gradients[WINDOW], gradients[BATCH]
    fp32 = in_precision(BATCH, "fp32")
    reference, exact = (fp32, batches[fp32]) if fp32 in batches else (BATCH, batch)
    higher = batches.get(in_precision(BATCH, HIGHER_PRECISION[precision]))
    bound = tolerance(precision, difference(batch.values(), higher.values()).relative if higher else None)
    scaled = {name: part * clip_scale for name, part in exact.items()}
    out = [
        _compare(WINDOW, window, BATCH, batch, bound if reference == BATCH else None),
        _compare(REPEAT, gradients[REPEAT], BATCH, batch),
        _compare(CLIPPED, gradients[CLIPPED], reference, scaled, bound),
    ]
    for name, other in batches.items():
        out.append(_compare(WINDOW, window, name, other, bound if name == reference else None))
        out.append(_compare(BATCH, batch, name, other))
    return out


def _incorrect_rules(
    target: Target, micros: Sequence[MicroBatch], limit: float, window: Gradients, clipped: Gradients
) -> Iterator[Comparison]:
    """Compare the gradient of each incorrect rule with that of the correct one."""
    rules = (
        (AccumulationRules(loss_norm="micro_mean"), window),
        (AccumulationRules(loss_norm="none"), window),
        (AccumulationRules(clip_per="micro_batch", max_grad_norm=limit), clipped),
    )
    for name, (rule, correct) in zip(INCORRECT_RULES, rules, strict=True):
        yield _compare(name, _window_gradient(target, micros, rule), WINDOW, correct)


def _against_trainer(target: Target, micros: Sequence[MicroBatch]) -> list[Comparison]:
    """Compare the gradients of transformers' Trainer with the window's."""
    gradient = _window_gradient(target, micros, AccumulationRules())
    by_trainer = trainer_gradients(target.model, target.parameters, target.loss, micros)
    return [_compare(name, other, WINDOW, gradient) for name, other in by_trainer.items()]


def _batch_gradient(target: Target, batch: MicroBatch, saved: list[int] | None = None) -> Gradients:
    """Return the gradient of one batch without accumulation: its loss over its tokens."""
    clear_gradients(list(target.parameters.values()))
    loss = _loss_function(target, saved)(batch)
    (loss * target.loss_scale / batch.supervised_tokens).backward()
    return {name: gradient / target.loss_scale for name, gradient in target.take_gradients().items()}


def _window_gradient(
    target: Target, micros: Sequence[MicroBatch], rules: AccumulationRules, saved: list[int] | None = None
) -> Gradients:
    """Return the gradient that `accumulate` leaves."""
    trained = list(target.parameters.values())
    clear_gradients(trained)
    scaler = GradScaler(target.model.device.type, target.loss_scale, enabled=target.loss_scale != 1)
    optimizer = torch.optim.SGD(trained, lr=0.0)  # for its parameters alone
    accumulate(micros, _loss_function(target, saved), trained, rules, scaler=scaler, optimizer=optimizer)
    return target.take_gradients()


def _loss_function(target: Target, saved: list[int] | None) -> Callable[[MicroBatch], Tensor]:
    """Return the target's loss; with a list, each call appends the bytes that it saves for the backward pass."""
    if saved is None:
        return target.loss

    def loss(micro: MicroBatch) -> Tensor:
        with saved_bytes(target.model) as sizes:
            value = target.loss(micro)
        saved.append(sum(sizes.values()))
        return value

    return loss


def _compare(name: str, a: Gradients, reference: str, b: Gradients, bound: float | None = None) -> Comparison:
    extra = difference([a[EXTRA]], [b[EXTRA]]) if EXTRA in b else None
    return Comparison(name, reference, difference(a.values(), (b[key] for key in a)), extra, bound)


def difference(a: Iterable[Tensor], b: Iterable[Tensor]) -> Difference:
    """Compare two gradients that have the same parts in the same order. Sums are in fp64."""
    distance = own = other = inner = 0.0  # squared norms of a - b, a and b, and the inner product
    for x, y in zip(a, b, strict=True):
        x, y = x.double(), y.double()
        distance += float((x - y).square().sum())
        own += float(x.square().sum())
        other += float(y.square().sum())
        inner += float((x * y).sum())
    if not other or not own:
        return Difference(0.0 if own == other else math.inf, 1.0 if own == other else 0.0)
    return Difference(math.sqrt(distance / other), min(1.0, inner / math.sqrt(own * other)))


def _norm(gradients: Gradients) -> float:
    return math.sqrt(sum(float(gradient.double().square().sum()) for gradient in gradients.values()))
