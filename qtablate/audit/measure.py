"""One setting's audit: the samples that a sweep's cell would see first, its model, and what its windows hold.

This module imports torch only when it measures.
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
from qtablate.model.load import read_config
from qtablate.sweep.sweep import refuse_misfit
from qtablate.train.sample_order import draw_samples
from qtablate.train.schedule import learning_rate, optimizer_steps

RIGHT, COUNTED = "optimizer steps", "schedule_at micro_batch"
EARLY, LATE = "advanced every micro-batch", "as long as the micro-batches"
"""Ways to run a schedule: rule 3, its incorrect form here, and the two slips of other loops: a schedule of as many steps as
there are optimizer steps that advances with each micro-batch, and one of as many as there are micro-batches that
advances with each optimizer step."""


def audit(sources: Sources, grid: Grid, recipe: Recipe, trainer: bool = False) -> Audit:
    """Measure every accumulation of the grid, which has one level of all else. Raises QtablateError."""
    check(grid, recipe)
    if trainer and recipe.precision == "fp16":
        raise GridError("--against trainer compares gradients of unscaled losses, of which fp16 loses the small ones: use bf16")
    config = read_config(sources.model)
    training = open_training(sources, config, recipe.samples, recipe.image_share)
    refuse_misfit(sources, config, training, recipe, max(grid.tokens))
    for device in gpus()[:1]:
        os.environ["CUDA_VISIBLE_DEVICES"] = device  # one, as a cell has
    from qtablate.audit.gradients import FP16_SCALE, Subject
    from qtablate.audit.gradients import audit as measure
    from qtablate.audit.trainer import VERSION
    from qtablate.cell.run import one_thread, prepare
    from qtablate.model.features import encoded

    one_thread()
    cell = grid.cells(recipe, Fingerprints("", "", ""))[0]
    samples, shown, left_out = first_samples(training, cell, max(grid.accum) * cell.condition.micro_batch_size)
    ready = prepare(cell, sources)
    if ready.encoder.tell_seconds:
        samples = with_seconds(samples, {clip: training.seconds(clip) for clip in shown})
    features = encoded(ready.model, shown)
    scale = FP16_SCALE if recipe.precision == "fp16" else 1.0
    measured = measure(
        Subject(ready.model, ready.parameters, autocast=ready.compute.autocast, scale=scale),
        samples,
        features.__getitem__,
        ready.encoder,
        cell.condition.micro_batch_size,
        grid.accum,
        recipe.longest,
        recipe.precision,
        recipe.max_grad_norm,
        trainer,
    )
    return Audit(
        sources.model,
        sources.train,
        recipe.precision,
        cell.condition.micro_batch_size,
        cell.seed,
        recipe.max_grad_norm,
        recipe.samples,
        sum(parameter.numel() for parameter in ready.parameters.values()),
        ready.surgery,
        left_out,
        measured,
        tuple(schedule(recipe, cell.condition.micro_batch_size, accumulation) for accumulation in grid.accum),
        VERSION if trainer else "",
    )


def first_samples(training: TrainingData, cell: Cell, count: int) -> tuple[list[Sample], dict[str, Frames], tuple[str, ...]]:
    """(the first `count` samples that the cell sees, frames of their clips, clips that cannot be shown and why).

    A cell leaves samples of clips that cannot be shown out before it draws; here those that are met are passed over.

    Raises:
        DataError: too few can be shown.
    """
    found: list[Sample] = []
    shown: dict[str, Frames] = {}
    broken: dict[str, str] = {}
    for sample in draw_samples(sample_order(cell), training.samples, training.weights, cell.recipe.samples):
        if sample.clip not in shown and sample.clip not in broken:
            try:
                shown[sample.clip] = training.frames(sample.clip)
            except BadMedia as error:
                broken[sample.clip] = str(error)
        if sample.clip in shown:
            found.append(sample)
        if len(found) == count:
            return found, shown, tuple(f"{clip}: {why}" for clip, why in broken.items())
    named = "; ".join(f"{clip}: {why}" for clip, why in list(broken.items())[:3])
    raise DataError(f"only {len(found)} of the {count} samples that are needed can be shown: {named}")


def schedule(recipe: Recipe, micro_batch_size: int, accumulation: int) -> Schedule:
    """Learning rates at the optimizer steps of a whole cell, the right ones and those of a schedule at micro-batches."""
    micro_batches = optimizer_steps(recipe.samples, micro_batch_size, 1)
    steps = optimizer_steps(recipe.samples, micro_batch_size, accumulation)
    # of the nth optimizer step: how far the schedule is, and how long it is
    ways = {RIGHT: (1, steps), COUNTED: (accumulation, micro_batches), EARLY: (accumulation, steps), LATE: (1, micro_batches)}
    rates = {
        name: [learning_rate(pace * n, length, 1.0, recipe.warm_up, recipe.min_lr_ratio) for n in range(steps)]
        for name, (pace, length) in ways.items()
    }
    return Schedule(accumulation, steps, tuple(_rates(name, found, rates[RIGHT]) for name, found in rates.items()))


def _rates(name: str, found: Sequence[float], right: Sequence[float]) -> Rates:
    farthest = max(abs(a - b) for a, b in zip(found, right, strict=True))
    return Rates(name, sum(found) / len(found), found[-1], farthest)
