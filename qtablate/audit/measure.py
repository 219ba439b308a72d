"""Audit of one setting: its model, and windows of the first samples that a sweep's cell would train on.

Torch is imported only when an audit runs.
"""

import os
from collections.abc import Sequence

from qtablate.audit.records import Audit, Rates, Schedule
from qtablate.cell.sample_order import sample_order
from qtablate.data.sources import Sources, open_training
from qtablate.datatypes import Frames, Sample, TrainingData, with_seconds
from qtablate.errors import BadMedia, DataError, GridError
from qtablate.execute.local import gpus
from qtablate.grid import Cell, Fingerprints, Grid, Recipe, check
from qtablate.model.directory import read_config
from qtablate.sweep.sweep import refuse_misfit
from qtablate.train.sample_order import draw_samples
from qtablate.train.schedule import learning_rate, optimizer_steps

CORRECT, PER_MICRO_BATCH = "optimizer steps", "lr_step_per micro_batch"
TOO_FAST, TOO_SLOW = "advanced every micro-batch", "as long as the micro-batches"
"""Ways in which a learning-rate schedule advances: rule 3 and its incorrect form (train/accumulate.py), and two frequent
mistakes: a schedule as long as the optimizer steps that advances with each micro-batch, and one as long as the micro-batches
that advances with each optimizer step."""


def audit(sources: Sources, grid: Grid, recipe: Recipe, trainer: bool = False) -> Audit:
    """Measure every accumulation of a grid that has one level of every other axis.

    Args:
        sources: The model and the training data.
        grid: The accumulations, the micro-batch size, the extra tokens and the seed.
        recipe: The training settings.
        trainer: Also pass each window through transformers' Trainer.

    Raises:
        QtablateError: The setting cannot be trained, or too few clips can be read.
    """
    check(grid, recipe)
    if trainer and recipe.precision == "fp16":
        raise GridError("--against trainer compares gradients of unscaled losses, of which fp16 loses the small ones: use bf16")
    config = read_config(sources.model)
    training = open_training(sources, config, recipe.samples, recipe.image_share)
    refuse_misfit(sources, config, training, recipe, max(grid.tokens))
    for device in gpus()[:1]:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # one, as a cell has
    from qtablate.audit.gradients import Settings
    from qtablate.audit.gradients import audit as measure
    from qtablate.audit.target import FP16_SCALE, Target
    from qtablate.audit.trainer import VERSION
    from qtablate.cell.run import one_thread, prepare
    from qtablate.model.features import encode_clips

    one_thread()
    cell = grid.cells(recipe, Fingerprints("", "", ""))[0]
    samples, frames, skipped = first_samples(training, cell, max(grid.accum) * cell.condition.micro_batch_size)
    ready = prepare(cell, sources)
    if ready.encoder.tell_seconds:
        samples = with_seconds(samples, {clip: training.seconds(clip) for clip in frames})
    features = encode_clips(ready.model, frames)
    scale = FP16_SCALE if recipe.precision == "fp16" else 1.0
    size = cell.condition.micro_batch_size
    measurement = measure(
        Target(ready.model, ready.parameters, autocast=ready.compute.autocast, loss_scale=scale),
        samples,
        features.__getitem__,
        ready.encoder,
        Settings(size, grid.accum, recipe.longest, recipe.precision, recipe.max_grad_norm, trainer),
    )
    return Audit(
        model=sources.model,
        train=sources.train,
        precision=recipe.precision,
        micro_batch_size=size,
        seed=cell.seed,
        max_grad_norm=recipe.max_grad_norm,
        samples=recipe.samples,
        trained_parameters=sum(parameter.numel() for parameter in ready.parameters.values()),
        query_resize=ready.surgery,
        skipped_clips=skipped,
        measurement=measurement,
        schedules=tuple(schedule(recipe, size, accumulation) for accumulation in grid.accum),
        trainer_version=VERSION if trainer else "",
    )


def first_samples(training: TrainingData, cell: Cell, count: int) -> tuple[list[Sample], dict[str, Frames], tuple[str, ...]]:
    """Return the first `count` samples that a cell trains on whose clips can be read.

    A cell leaves samples of clips that cannot be read out before it draws; here those that are drawn are skipped.

    Returns:
        The samples, the frames of their clips by name, and the clips that cannot be read, each with the reason.

    Raises:
        DataError: Too few samples have clips that can be read.
    """
    samples: list[Sample] = []
    frames: dict[str, Frames] = {}
    unreadable: dict[str, str] = {}
    for sample in draw_samples(sample_order(cell), training.samples, training.weights, cell.recipe.samples):
        if sample.clip not in frames and sample.clip not in unreadable:
            try:
                frames[sample.clip] = training.frames(sample.clip)
            except BadMedia as error:
                unreadable[sample.clip] = str(error)
        if sample.clip in frames:
            samples.append(sample)
        if len(samples) == count:
            return samples, frames, tuple(f"{clip}: {reason}" for clip, reason in unreadable.items())
    named = "; ".join(f"{clip}: {reason}" for clip, reason in list(unreadable.items())[:3])
    raise DataError(f"{count} samples are needed, but the clips of only {len(samples)} can be read: {named}")


def schedule(recipe: Recipe, micro_batch_size: int, accumulation: int) -> Schedule:
    """Compute the learning rates at the optimizer steps of a whole cell, by the way the schedule advances."""
    micro_batches = optimizer_steps(recipe.samples, micro_batch_size, 1)
    steps = optimizer_steps(recipe.samples, micro_batch_size, accumulation)
    # schedule steps per optimizer step, and the length of the schedule
    ways = {
        CORRECT: (1, steps),
        PER_MICRO_BATCH: (accumulation, micro_batches),
        TOO_FAST: (accumulation, steps),
        TOO_SLOW: (1, micro_batches),
    }
    rates = {
        name: [learning_rate(pace * n, length, 1.0, recipe.warm_up, recipe.min_lr_ratio) for n in range(steps)]
        for name, (pace, length) in ways.items()
    }
    return Schedule(accumulation, steps, tuple(_rates(name, own, rates[CORRECT]) for name, own in rates.items()))


def _rates(name: str, rates: Sequence[float], correct: Sequence[float]) -> Rates:
    max_deviation = max(abs(a - b) for a, b in zip(rates, correct, strict=True))
    return Rates(name, sum(rates) / len(rates), rates[-1], max_deviation)
