"""One cell from start to end: model, training, evaluation, files. Runs in a process of its own, one thread.

A cell is a pure function of its configuration; where it runs decides nothing but its times.
"""

import math
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from qtablate.cell import template
from qtablate.cell.build import PreparedModel, count_parameters, make_training, prepare_model, train_plan
from qtablate.cell.guard import Guard
from qtablate.cell.inputs import CellInputs, read_inputs
from qtablate.cell.jobs import CellJob
from qtablate.cell.out_of_memory import dropout_refused
from qtablate.cell.outputs import CellFiles
from qtablate.cell.process import host, keep_freed_memory
from qtablate.cell.sample_order import training_samples
from qtablate.cell.scoring import score_items, summarize
from qtablate.controls import FULL
from qtablate.datatypes import Item, Problem
from qtablate.errors import DataError, QtablateError
from qtablate.evaluate.attention import MAX_ITEMS, attention_maps
from qtablate.evaluate.diversity import query_diversity
from qtablate.evaluate.prompt import LIKELIHOOD
from qtablate.evaluate.score import fitting_items
from qtablate.evaluate.scores import Scores
from qtablate.evaluate.token_ablation import ablate_tokens, sample_per_task
from qtablate.execute.events import Notice, Progress
from qtablate.interrupts import save_asked
from qtablate.model.dropout import has_dropout
from qtablate.records import Figures, QueryDiversity, of_cell
from qtablate.store import Store
from qtablate.train import checkpoint
from qtablate.train.batches import supervised_tokens
from qtablate.train.device import deterministic
from qtablate.train.distributed import process_group
from qtablate.train.loop import Step, Training
from qtablate.train.rank_info import RankInfo

Report = Callable[[Progress | Notice], None]

CHECKPOINT = "checkpoint.pt"
"""Of a cell that is not finished, in its folder."""


def run_cell(job: CellJob, report: Report, rank_info: RankInfo | None = None) -> None:
    """Run a cell and write its files; a failure is written too, and raised.

    Of several processes that share a cell the first writes, and when they have trained together it goes on alone: the others
    end. Their failure is written by the sweep, which hears all of them and knows whose it was.
    """
    store, cell = Store(job.store), job.cell
    guard = Guard(job, store, report)
    made_on = host()
    if rank_info is None or rank_info.rank == 0:
        store.write_record(of_cell(cell, "running", host=made_on))
    try:
        with deterministic():
            figures = _run(job, store, guard, rank_info)
    except Exception as error:
        if rank_info is None and not guard.lost():
            text = str(error) if isinstance(error, QtablateError) else f"{type(error).__name__}: {error}"
            failed = of_cell(cell, "failed", error=text, traceback=traceback.format_exc(), host=made_on)
            store.write_record(failed)
        raise
    if figures:
        guard.seal()
        store.write_record(of_cell(cell, "ok", figures, files=store.checksums(cell.key), host=made_on))
        with suppress(OSError):  # the cell is finished
            checkpoint.remove(store.cell_file(cell.key, CHECKPOINT))


def _run(job: CellJob, store: Store, guard: Guard, rank_info: RankInfo | None) -> Figures | None:
    """Train and score the cell. None for a process behind the first of several."""
    cell, settings, report = job.cell, job.cell.settings, guard.report
    files = CellFiles(store, cell.key, guard.seal)
    keep_freed_memory()
    torch.manual_seed(cell.seed)  # dropout, where a model has any
    inputs = template.take(job.inputs) or read_inputs(job.inputs)
    prepared = prepare_model(cell, inputs.model, inputs.encoder)
    initial_queries = prepared.model.queries().detach().clone()
    steps = _train(job, prepared, inputs, store.cell_file(cell.key, CHECKPOINT), report, rank_info)
    if steps is None:
        return None
    files.train(steps)

    evaluation = _evaluate(job, prepared, inputs, files, report)
    began = time.perf_counter()
    with prepared.compute.autocast():
        diversity = (
            _diagnose_queries(prepared, inputs, evaluation.items, initial_queries, files, report) if settings.diagnose else None
        )
    diagnose_seconds = time.perf_counter() - began

    counts, summary = count_parameters(prepared), summarize(evaluation.answers)
    return Figures(
        steps=sum(step.grad_norm is not None for step in steps),
        samples_seen=steps[-1].samples_seen,
        supervised_tokens=sum(step.supervised_tokens for step in steps),
        skipped_windows=sum(step.loss is None for step in steps),
        overflows=sum(step.loss is not None and step.grad_norm is None for step in steps),
        peak_learning_rate=cell.learning_rate,
        truncated_samples=sum(step.truncated_samples for step in steps),
        dropout=has_dropout(prepared.model),
        train_loss=_final_loss(steps),
        accuracy=summary.accuracy,
        accuracy_macro=summary.accuracy_macro,
        accuracy_per_token=summary.accuracy_per_token,
        controls=summary.controls,
        visual_gain=summary.visual_gain,
        temporal_gain=summary.temporal_gain,
        chance=summary.chance,
        tasks=summary.tasks,
        visual_tokens=prepared.model.num_visual_tokens,
        trainable_params=counts.trainable,
        frozen_params=counts.frozen,
        extra_query_tokens=prepared.query_resize,
        query_diversity=diversity,
        train_seconds=sum(step.seconds for step in steps),
        eval_seconds=evaluation.seconds.pop(FULL),
        control_seconds=sum(evaluation.seconds.values()),
        diagnose_seconds=diagnose_seconds,
        peak_memory_mb=prepared.compute.peak_memory_mb(),
        unscored=tuple(evaluation.unscored),
        micro_batch_parts=max(step.micro_batch_parts for step in steps),
    )


def _train(
    job: CellJob, prepared: PreparedModel, inputs: CellInputs, kept: Path, report: Report, rank_info: RankInfo | None
) -> list[Step] | None:
    """Train from the last checkpoint, or from the start. None for a process behind the first of several.

    Args:
        kept: file of the checkpoint.
    """
    cell, encoder, longest = job.cell, prepared.encoder, job.cell.settings.max_text_tokens
    samples = training_samples(cell, inputs.samples, inputs.weights, lambda sample: supervised_tokens(sample, encoder, longest))
    with (
        dropout_refused(prepared.model, job.micro_batch_parts),
        process_group(rank_info, prepared.compute.device, cell.seed) as group,
    ):
        plan = replace(train_plan(cell), micro_batch_parts=job.micro_batch_parts)
        run = make_training(prepared, samples, inputs.training_features.__getitem__, plan, group)
        try:
            steps = checkpoint.resume(kept, run)
        except checkpoint.UnusableCheckpoint as error:
            steps = []
            report(Notice(f"{CHECKPOINT} cannot be used ({error}): training starts over"))
        resumed, saved, save = len(steps), time.monotonic(), _Saver(kept, report)
        for step in run:
            steps.append(step)
            report(Progress("train", len(steps), run.steps, step.loss))
            due = job.checkpoint_seconds is not None and time.monotonic() - saved >= job.checkpoint_seconds
            if (due or save_asked()) and group.rank == 0:
                save(run, steps)
                saved = time.monotonic()
        if group.rank == 0 and len(steps) > resumed:  # so that evaluation alone is tried again where it fails
            save(run, steps)
    if group.rank:
        return None
    if all(step.grad_norm is None for step in steps) and any(step.loss is not None for step in steps):
        raise QtablateError(
            "training diverged: no window had a finite gradient in fp16; clip gradients or use --precision bf16"
        )
    return steps


def _final_loss(steps: Sequence[Step]) -> float | None:
    """Token-weighted mean loss of the last tenth of the steps; None where these supervised no token."""
    last = [step for step in steps[-max(1, len(steps) // 10) :] if step.loss is not None and math.isfinite(step.loss)]
    supervised = sum(step.supervised_tokens for step in last)
    total = sum(step.loss * step.supervised_tokens for step in last if step.loss is not None)
    return total / supervised if supervised else None


@dataclass(frozen=True, slots=True)
class _Evaluation:
    items: list[Item]
    """Those that were scored."""
    unscored: list[Problem]
    answers: dict[str, list[Scores]]
    """By control, of the first scorer."""
    seconds: dict[str, float]
    """By control."""


def _evaluate(job: CellJob, prepared: PreparedModel, inputs: CellInputs, files: CellFiles, report: Report) -> _Evaluation:
    """Score the items under every control and write the answers."""
    settings = job.cell.settings
    items, unscored = fitting_items(prepared.model, prepared.encoder, inputs.items, settings.scorers)
    if not items:
        raise DataError("no item can be scored: every clip of the benchmark was left out, or every text is too long")
    answers: dict[str, list[Scores]] = {}
    seconds: dict[str, float] = {}
    controls = (FULL, *settings.controls)

    def report_done(done: int) -> None:
        report(Progress("evaluate", len(answers) * len(items) + done, len(controls) * len(items)))

    first = settings.scorers[0]
    for control in controls:
        began = time.perf_counter()
        scorers = settings.scorers if control == FULL else (first,)
        scored = score_items(prepared, items, control, inputs.benchmark_features.__getitem__, report_done, scorers)
        answers[control] = scored[first]
        seconds[control] = time.perf_counter() - began
        if control == FULL and settings.scorers != (LIKELIHOOD,):
            files.scorer_agreement(scored)
    files.answers(answers)
    return _Evaluation(list(items), unscored, answers, seconds)


class _Saver:
    """Writes checkpoints; where there is no room for one, training goes on without, and that is reported once."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path, self._report, self._reported = path, report, False

    def __call__(self, run: Training, steps: Sequence[Step]) -> None:
        try:
            checkpoint.save(self._path, run, steps)
        except OSError as error:
            if not self._reported:
                self._report(Notice(f"{self._path} cannot be written ({error.strerror}): going on without a checkpoint"))
            self._reported = True


def _diagnose_queries(
    prepared: PreparedModel,
    inputs: CellInputs,
    items: Sequence[Item],
    initial_queries: Tensor,
    files: CellFiles,
    report: Report,
) -> QueryDiversity | None:
    """Measure what the visual tokens hold and where they attend, and write it. How diverse the extra ones are is returned, None
    where there are none."""
    model, encoder, features = prepared.model, prepared.encoder, inputs.benchmark_features[FULL]
    sampled = sample_per_task(items)
    files.token_ablation(
        ablate_tokens(model, encoder, sampled, features, lambda done, of: report(Progress("tokens", done, of)))
    )
    one_medium = [item for item in sampled if features[item.clip].shape == features[sampled[0].clip].shape]
    mapped = one_medium[:: max(1, len(one_medium) // MAX_ITEMS)]
    files.attention(attention_maps(model, encoder, mapped, features))
    if not model.config.extra_num_query_tokens:
        return None
    clips = dict.fromkeys(item.clip for item in one_medium)
    return query_diversity(model, initial_queries, torch.stack([features[clip] for clip in clips]))
