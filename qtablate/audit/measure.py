"""Audit of one setting: its model, and windows of the first samples that a sweep's cell would train on.

Torch is imported only when an audit runs.
"""

import os
from collections.abc import Sequence

from qtablate.audit.records import Audit, Rates, Schedule
from qtablate.axes import ACCUMULATION
from qtablate.cell.sample_order import sample_order
from qtablate.config import SweepConfig
from qtablate.data.sources import open_training
from qtablate.datatypes import Frames, Sample, TrainingData, with_seconds
from qtablate.errors import BadMedia, ConfigError, DataError
from qtablate.execute.resources import gpus
from qtablate.grid import Cell, CellSettings, Fingerprints, cells
from qtablate.model.directory import read_config
from qtablate.sweep.resolve import resolve
from qtablate.sweep.validate import validate_data, validate_grid
from qtablate.train.sample_order import draw_samples
from qtablate.train.schedule import learning_rate, optimizer_steps

CORRECT, PER_MICRO_BATCH = "optimizer steps", "lr_step_per micro_batch"
TOO_FAST, TOO_SLOW = "advanced every micro-batch", "as long as the micro-batches"
"""Ways in which a learning-rate schedule advances: rule 3 and its incorrect form (train/accumulate.py), and two frequent
mistakes: a schedule as long as the optimizer steps that advances with each micro-batch, and one as long as the micro-batches
that advances with each optimizer step."""


def audit(config: SweepConfig, trainer: bool = False) -> Audit:
    """Measure every accumulation of a grid that has one level of every other axis.

    Args:
        config: What a sweep would be given; its model, training data, grid and training settings count.
        trainer: Also pass each window through transformers' Trainer.

    Raises:
        QtablateError: The setting cannot be trained, or too few clips can be read.
    """
    data, model_config = config.data, read_config(config.data.model)
    settings = resolve(config, model_config)
    validate_grid(config, settings, model_config)
    if trainer and settings.precision == "fp16":
        raise ConfigError(
            "--against trainer compares gradients of unscaled losses, of which fp16 loses the small ones: use bf16"
        )
    training = open_training(data, model_config, settings.samples, settings.image_ratio)
    validate_data(config, settings, model_config, training)
    for device in gpus()[:1]:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # one, as a cell has
    from qtablate.audit.gradients import Settings
    from qtablate.audit.gradients import audit as measure
    from qtablate.audit.target import FP16_SCALE, Target
    from qtablate.audit.trainer import VERSION
    from qtablate.cell.build import build_model
    from qtablate.cell.process import one_thread
    from qtablate.model.features import encode_clips

    one_thread()
    cell = cells(config.grid, settings, lambda _: Fingerprints("", "", ""), model_config["num_frames"])[0]
    accumulations, size = config.grid.levels(ACCUMULATION), cell.condition.micro_batch_size
    samples, frames, skipped = first_samples(training, cell, max(accumulations) * size)
    prepared = build_model(cell, data)
    if prepared.encoder.tell_seconds:
        samples = with_seconds(samples, {clip: training.seconds(clip) for clip in frames})
    features = encode_clips(prepared.model, frames)
    scale = FP16_SCALE if settings.precision == "fp16" else 1.0
    measurement = measure(
        Target(prepared.model, prepared.parameters, autocast=prepared.compute.autocast, loss_scale=scale),
        samples,
        features.__getitem__,
        prepared.encoder,
        Settings(size, accumulations, settings.max_text_tokens, settings.precision, settings.max_grad_norm, trainer),
    )
    return Audit(
        model=data.model,
        train=data.train,
        precision=settings.precision,
        micro_batch_size=size,
        seed=cell.seed,
        max_grad_norm=settings.max_grad_norm,
        samples=settings.samples,
        trained_parameters=sum(parameter.numel() for parameter in prepared.parameters.values()),
        query_resize=prepared.query_resize,
        skipped_clips=skipped,
        measurement=measurement,
        schedules=tuple(schedule(settings, size, accumulation) for accumulation in accumulations),
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
    for sample in draw_samples(sample_order(cell), training.samples, training.weights, cell.settings.samples):
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


def schedule(settings: CellSettings, micro_batch_size: int, accumulation: int) -> Schedule:
    """Compute the learning rates at the optimizer steps of a whole cell, by the way the schedule advances."""
    micro_batches = optimizer_steps(settings.samples, micro_batch_size, 1)
    steps = optimizer_steps(settings.samples, micro_batch_size, accumulation)
    # schedule steps per optimizer step, and the length of the schedule
    ways = {
        CORRECT: (1, steps),
        PER_MICRO_BATCH: (accumulation, micro_batches),
        TOO_FAST: (accumulation, steps),
        TOO_SLOW: (1, micro_batches),
    }
    rates = {
        name: [learning_rate(pace * n, length, 1.0, settings.warmup_ratio, settings.min_lr_ratio) for n in range(steps)]
        for name, (pace, length) in ways.items()
    }
    return Schedule(accumulation, steps, tuple(_rates(name, own, rates[CORRECT]) for name, own in rates.items()))


def _rates(name: str, rates: Sequence[float], correct: Sequence[float]) -> Rates:
    max_deviation = max(abs(a - b) for a, b in zip(rates, correct, strict=True))
    return Rates(name, sum(rates) / len(rates), rates[-1], max_deviation)
