"""Time a few micro-batches and items of a cell, so that a plan can say what its cells will take."""

import time
from collections.abc import Callable
from dataclasses import replace

from qtablate.cell.build import blank_features, build_model, count_parameters, make_training, train_plan
from qtablate.cell.jobs import Probed, ProbeJob
from qtablate.cell.process import one_thread
from qtablate.cell.sample_order import sample_order
from qtablate.cell.scoring import score_items
from qtablate.controls import FULL
from qtablate.data.sources import open_benchmark, open_training
from qtablate.datatypes import VIDEO, Item, Sample, with_seconds
from qtablate.execute.events import Notice, Progress
from qtablate.model.directory import read_config
from qtablate.train.sample_order import draw_samples

ITEMS = 64
"""Items of the benchmark that are scored."""


def probe(job: ProbeJob, report: Callable[[Progress | Notice], None]) -> Probed:
    """Time two micro-batches of the cell after a first one, and one group of items. Where several processes share a cell, the
    largest share of a micro-batch is timed, alone: without the time and memory that adding up gradients takes."""
    one_thread()
    cell, settings = job.cell, job.cell.settings
    config = {**read_config(job.data.model), "num_frames": cell.condition.frames}
    training = open_training(job.data, config, settings.samples, settings.image_ratio)
    items: list[Item] = list(open_benchmark(job.data, config).items[:ITEMS])
    size = -(-cell.condition.micro_batch_size // job.processes)
    samples: list[Sample] = draw_samples(
        sample_order(cell), training.samples, training.weights, cell.samples or settings.samples, 3 * size
    )
    controls = (FULL, *settings.controls)
    parts = 1 + -(-len(samples) // size) + len(controls)
    report(Progress("probe", 0, parts))
    prepared = build_model(cell, job.data)
    report(Progress("probe", 1, parts))
    shown: list[Item | Sample] = [*samples, *items]
    media = {one.clip: one.medium for one in shown}
    if prepared.encoder.tell_seconds:
        at = {clip: (0.0,) * cell.condition.frames for clip, medium in media.items() if medium == VIDEO}
        samples, items = with_seconds(samples, at), with_seconds(items, at)
    blank = {medium: blank_features(prepared.model, medium) for medium in set(media.values())}
    features = {clip: blank[medium] for clip, medium in media.items()}
    plan = replace(train_plan(cell), micro_batch_size=size, accumulate_grad_batches=1)
    steps = []
    for step in make_training(prepared, samples, features.__getitem__, plan):
        steps.append(step)
        report(Progress("probe", 1 + len(steps), parts))
    began = time.perf_counter()
    for done, control in enumerate(controls, start=1):
        scorers = settings.scorers if control == FULL else settings.scorers[:1]
        score_items(prepared, items, control, lambda _: features, lambda _: None, scorers)
        report(Progress("probe", parts - len(controls) + done, parts))
    item_seconds = (time.perf_counter() - began) / len(items)
    timed = [step.seconds for step in steps[1:]] or [steps[0].seconds]
    tokens = sum(step.supervised_tokens for step in steps) / len(samples)
    counts = count_parameters(prepared)
    memory = prepared.compute.peak_memory_mb()
    return Probed(sum(timed) / len(timed), item_seconds, memory, counts.trainable, counts.frozen, tokens)
