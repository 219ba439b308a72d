"""One cell from start to end: model, training, evaluation, files. Runs in a process of its own, one thread.

A cell is a pure function of its configuration; where it runs decides nothing but its times.
"""

import math
import platform
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from qtablate.cell.jobs import CellJob, FeatureJob, Probed, ProbeJob
from qtablate.cell.sample_order import sample_order, training_samples
from qtablate.controls import BLIND, FULL, SHUFFLED
from qtablate.data.sources import Sources, open_benchmark, open_training
from qtablate.datatypes import VIDEO, Clips, Frames, Item, Sample, with_seconds
from qtablate.errors import DataError, QtablateError
from qtablate.evaluate import tokens
from qtablate.evaluate.controls import Features, apply_control
from qtablate.evaluate.score import GENERATE, LIKELIHOOD, Scores, fits, score
from qtablate.execute.events import Notice, Progress
from qtablate.grid import Cell
from qtablate.model.adapter import disable_lora_dropout, new_adapter
from qtablate.model.directory import read_config
from qtablate.model.dropout import has_dropout
from qtablate.model.encode import ConversationEncoder
from qtablate.model.features import vision_dtype
from qtablate.model.load import load, reinitialize
from qtablate.model.preprocess import CLIP_MEAN, normalize_frames
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.video_lm import VideoLM
from qtablate.prompts.mvbench import official_check
from qtablate.records import Figures, QueryDiversity, TaskScore, of_cell
from qtablate.statistics.clustered import ClusteredMean, clustered_mean
from qtablate.store import Store
from qtablate.train import checkpoint
from qtablate.train.accumulate import AccumulationRules
from qtablate.train.batches import supervised_tokens
from qtablate.train.device import LOAD_DTYPES, ComputeContext, compute_context, deterministic
from qtablate.train.distributed import SINGLE_PROCESS, ProcessGroup, process_group
from qtablate.train.loop import Step, Training, TrainPlan
from qtablate.train.rank_info import RankInfo
from qtablate.train.sample_order import draw_samples
from qtablate.train.trainable import choose_trainable

Report = Callable[[Progress | Notice], None]

CHECKPOINT = "checkpoint.pt"
"""Of a cell that is not finished, in its folder."""

TRAIN_COLUMNS = (
    "step",
    "samples_seen",
    "supervised_tokens",
    "loss",
    "grad_norm",
    "extra_grad_norm",
    "extra_update",
    "query_update",
    "extra_cosine",
    "extra_rank",
    "grad_signal",
    "grad_noise",
    "lr",
    "image_ratio",
    "seconds",
)
ANSWER_COLUMNS = (
    "control",
    "item",
    "task",
    "cluster",
    "gold",
    "predicted",
    "predicted_per_token",
    "correct",
    "correct_per_token",
    "options",
    "scores",
    "tokens",
)


ABLATION_COLUMNS = ("ablation", "start", "end", "n_items", "accuracy", "accuracy_stderr", "change", "change_stderr")


def one_thread() -> None:
    """One thread a process: two busy processes of two threads each ran 15 times slower than of one each."""
    torch.set_num_threads(1)


def compute_features(job: FeatureJob, report: Report) -> None:
    """Compute chunks of frozen features."""
    one_thread()
    model, _ = load(job.sources.model, LOAD_DTYPES[job.files.precision])
    model.eval()
    model.language_model = None  # not asked here; a large one would fill the device for nothing
    compute_context(model, job.files.precision)
    config = read_config(job.sources.model)
    if job.which == "training":
        clips: Clips = open_training(job.sources, config, job.samples, job.image_share)
    else:
        clips = open_benchmark(job.sources, config)
    heard = _Heard(clips, report, sum(len(job.files.chunks[number][1]) for number in job.chunks))
    for number in job.chunks:
        job.files.compute(number, model, heard)


class _Heard:
    """Clips that tell of each one that is decoded: a chunk of long ones may take minutes."""

    def __init__(self, clips: Clips, report: Report, total: int) -> None:
        self._clips, self._report, self._total, self._done = clips, report, total, 0
        self.fingerprint, self.clips, self.key, self.seconds = clips.fingerprint, clips.clips, clips.key, clips.seconds

    def frames(self, clip: str) -> Frames:
        try:
            return self._clips.frames(clip)
        finally:
            self._done += 1
            self._report(Progress("features", self._done, self._total))


def probe(job: ProbeJob, report: Report) -> Probed:
    """Time two micro-batches of the cell after a first one, and one group of items; where a cell has several ranks, the largest
    share of a micro-batch, alone: without the time and memory that adding up gradients takes."""
    one_thread()
    cell, recipe, config = job.cell, job.cell.recipe, read_config(job.sources.model)
    training = open_training(job.sources, config, recipe.samples, recipe.image_share)
    items = open_benchmark(job.sources, config).items[:64]
    size = -(-cell.condition.micro_batch_size // job.ranks)
    samples = draw_samples(sample_order(cell), training.samples, training.weights, cell.samples or recipe.samples, 3 * size)
    controls = (FULL, *recipe.controls)
    parts = 1 + -(-len(samples) // size) + len(controls)
    report(Progress("probe", 0, parts))
    ready = prepare(cell, job.sources)
    report(Progress("probe", 1, parts))
    model = ready.model
    if ready.encoder.tell_seconds:
        shown = [*((one.clip, one.medium) for one in samples), *((one.clip, one.medium) for one in items)]
        at = {clip: (0.0,) * config["num_frames"] for clip, medium in shown if medium == VIDEO}
        samples, items = with_seconds(samples, at), with_seconds(items, at)
    blank = {medium: blank_features(model, medium) for medium in {s.medium for s in samples} | {i.medium for i in items}}
    features = {sample.clip: blank[sample.medium] for sample in samples}
    empty = {item.clip: blank[item.medium] for item in items}
    alone = replace(plan_of(cell), micro_batch_size=size, accumulate_grad_batches=1)
    steps = []
    for step in training_of(ready, samples, features.__getitem__, alone):
        steps.append(step)
        report(Progress("probe", 1 + len(steps), parts))
    began = time.perf_counter()
    for done, control in enumerate(controls, start=1):
        ask(ready, items, control, lambda _: empty, lambda _: None, recipe.scorers if control == FULL else recipe.scorers[:1])
        report(Progress("probe", parts - len(controls) + done, parts))
    an_item = (time.perf_counter() - began) / len(items)
    timed = [step.seconds for step in steps[1:]] or [steps[0].seconds]
    tokens = sum(step.supervised_tokens for step in steps) / len(samples)
    return Probed(sum(timed) / len(timed), an_item, ready.compute.peak_memory_mb(), *counted(ready), tokens)


def run_cell(job: CellJob, report: Report, rank_info: RankInfo | None = None) -> None:
    """Run a cell and write its files; a failure is written too, and raised.

    Of several ranks the first writes, and when they have trained together it goes on alone: the others end. Their failure
    is written by the sweep, which hears all of them and knows whose it was.
    """
    store, cell = Store(job.store), job.cell
    made_on = host()
    if rank_info is None or rank_info.rank == 0:
        store.write_record(of_cell(cell, "running", host=made_on))
    try:
        with deterministic():
            figures = _run(job, store, report, rank_info)
    except Exception as error:
        if rank_info is None:
            text = str(error) if isinstance(error, QtablateError) else f"{type(error).__name__}: {error}"
            failed = of_cell(cell, "failed", error=text, traceback=traceback.format_exc(), host=made_on)
            store.write_record(failed)
        raise
    if figures:
        store.write_record(of_cell(cell, "ok", figures, files=store.checksums(cell.key), host=made_on))
        with suppress(OSError):  # the cell is finished
            checkpoint.remove(store.cell_file(cell.key, CHECKPOINT))


def host() -> str:
    """What this process runs on, as far as that can change how numbers round: `x86_64 AVX2, python 3.11.7`, or the GPU."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {device}, python {platform.python_version()}"


def _run(job: CellJob, store: Store, report: Report, rank_info: RankInfo | None) -> Figures | None:
    """None for a rank behind the first."""
    cell, recipe = job.cell, job.cell.recipe
    torch.manual_seed(cell.seed)  # dropout, where a model has any
    ready = prepare(cell, job.sources)
    model, encoder = ready.model, ready.encoder
    config = read_config(job.sources.model)
    started = model.queries().detach().clone()

    training = open_training(job.sources, config, recipe.samples, recipe.image_share)
    job.training.verify()
    job.benchmark.verify()
    features = job.training.read()
    there = with_seconds([sample for sample in training.samples if sample.clip in features], job.training.seconds())
    samples = training_samples(cell, there, training.weights, lambda sample: supervised_tokens(sample, encoder, recipe.longest))
    kept = store.cell_file(cell.key, CHECKPOINT)
    with process_group(rank_info, ready.compute.device, cell.seed) as group:
        run = training_of(ready, samples, features.__getitem__, plan_of(cell), group)
        try:
            steps = checkpoint.resume(kept, run)
        except checkpoint.Unusable as error:
            steps = []
            report(Notice(f"{CHECKPOINT} cannot be used ({error}): training starts over"))
        resumed, saved, keep = len(steps), time.monotonic(), _Keeper(kept, report)
        for step in run:
            steps.append(step)
            report(Progress("train", len(steps), run.steps, step.loss))
            if job.save_every is not None and group.rank == 0 and time.monotonic() - saved >= job.save_every:
                keep(run, steps)
                saved = time.monotonic()
        if group.rank == 0 and len(steps) > resumed:  # so that evaluation alone is tried again where it fails
            keep(run, steps)
    if group.rank:
        return None
    if all(step.grad_norm is None for step in steps) and any(step.loss is not None for step in steps):
        raise QtablateError(
            "training diverged: no window had a finite gradient in fp16; clip gradients or use --precision bf16"
        )
    store.write_rows(store.cell_file(cell.key, "train.csv"), _as_rows(steps), TRAIN_COLUMNS)

    plain = job.benchmark.read()
    asked_of = [item for item in open_benchmark(job.sources, config).items if item.clip in plain]
    items, unscored = fits(model, encoder, with_seconds(asked_of, job.benchmark.seconds()), recipe.scorers)
    if not items:
        raise DataError("no item can be asked: every clip of the benchmark was left out, or every text is too long")
    answers: dict[str, list[Scores]] = {}
    seconds: dict[str, float] = {}
    in_all = (1 + len(recipe.controls)) * len(items)

    def features_of(control: str) -> Features:
        return plain if control == FULL else job.benchmark.read(control)

    def told(done: int) -> None:
        report(Progress("evaluate", len(answers) * len(items) + done, in_all))

    first = recipe.scorers[0]
    for control in (FULL, *recipe.controls):
        began = time.perf_counter()
        asked = ask(ready, items, control, features_of, told, recipe.scorers if control == FULL else (first,))
        answers[control] = asked[first]
        seconds[control] = time.perf_counter() - began
        if control == FULL and recipe.scorers != (LIKELIHOOD,):
            rows = [_choice(one) for one in zip(*asked.values(), strict=True)]
            columns = (
                "item",
                "task",
                "cluster",
                "gold",
                *recipe.scorers,
                *(("official_check", "text") if GENERATE in asked else ()),
            )
            store.write_rows(store.cell_file(cell.key, "scorers.csv"), rows, columns)
    rows = [_answer(control, one) for control, scores in answers.items() for one in scores]
    store.write_rows(store.cell_file(cell.key, "answers.csv"), rows, ANSWER_COLUMNS)

    began = time.perf_counter()
    with ready.compute.autocast():
        query_diversity = _look(model, encoder, items, plain, started, store, cell.key, report) if recipe.diagnose else None
    diagnose_seconds = time.perf_counter() - began

    last = [step for step in steps[-max(1, len(steps) // 10) :] if step.loss is not None and math.isfinite(step.loss)]
    supervised = sum(step.supervised_tokens for step in last)
    trainable, frozen = counted(ready)
    return Figures(
        steps=sum(step.grad_norm is not None for step in steps),
        samples_seen=steps[-1].samples_seen,
        supervised_tokens=sum(step.supervised_tokens for step in steps),
        skipped_windows=sum(step.loss is None for step in steps),
        overflows=sum(step.loss is not None and step.grad_norm is None for step in steps),
        peak_learning_rate=cell.learning_rate,
        truncated_samples=sum(step.truncated_samples for step in steps),
        dropout=has_dropout(model),
        train_loss=sum(step.loss * step.supervised_tokens for step in last if step.loss is not None) / supervised
        if supervised
        else None,
        visual_tokens=model.num_visual_tokens,
        trainable_params=trainable,
        frozen_params=frozen,
        extra_query_tokens=ready.surgery,
        query_diversity=query_diversity,
        train_seconds=sum(step.seconds for step in steps),
        eval_seconds=seconds.pop(FULL),
        control_seconds=sum(seconds.values()),
        diagnose_seconds=diagnose_seconds,
        peak_memory_mb=ready.compute.peak_memory_mb(),
        unscored=tuple(unscored),
        **summarise(answers),
    )


class _Keeper:
    """Writes checkpoints; where there is no room for one, training goes on without, and that is said once."""

    def __init__(self, path: Path, report: Report) -> None:
        self._path, self._report, self._said = path, report, False

    def __call__(self, run: Training, steps: Sequence[Step]) -> None:
        try:
            checkpoint.save(self._path, run, steps)
        except OSError as error:
            if not self._said:
                self._report(Notice(f"{self._path} cannot be written ({error.strerror}): going on without a checkpoint"))
            self._said = True


def _look(
    model: VideoLM,
    encoder: ConversationEncoder,
    items: Sequence[Item],
    shown: Features,
    started: Tensor,
    store: Store,
    key: str,
    report: Report,
) -> QueryDiversity | None:
    """Write token_ablation.csv and attention.csv; return the diversity of the extra queries, None without any."""
    some = tokens.sample(items)
    held = tokens.curve(model, encoder, some, shown, lambda done, of: report(Progress("tokens", done, of)))
    store.write_rows(
        store.cell_file(key, "token_ablation.csv"),
        [
            {
                "ablation": one.what,
                "start": one.tokens[0],
                "end": one.tokens[1],
                "n_items": one.accuracy.n,
                "accuracy": one.accuracy.value,
                "accuracy_stderr": one.accuracy.stderr,
                "change": one.change.value,
                "change_stderr": one.change.stderr,
            }
            for one in held
        ],
        ABLATION_COLUMNS,
    )
    one_medium = [item for item in some if shown[item.clip].shape == shown[some[0].clip].shape]
    looked = tokens.looks(model, encoder, one_medium[:: max(1, len(one_medium) // tokens.LOOKED_AT)], shown)
    places = {place: "place_{}_{}_{}".format(*place) for place in looked[0].places}  # frame, row, column
    store.write_rows(
        store.cell_file(key, "attention.csv"),
        [
            {
                "token": one.token,
                "extra": int(one.extra),
                "from_question": one.from_question,
                "from_answer": one.from_answer,
                **{places[place]: share for place, share in one.places.items()},
            }
            for one in looked
        ],
        ("token", "extra", "from_question", "from_answer", *places.values()),
    )
    if not model.config.extra_num_query_tokens:
        return None
    clips = dict.fromkeys(item.clip for item in one_medium)
    return tokens.query_diversity(model, started, torch.stack([shown[clip] for clip in clips]))


@dataclass(frozen=True, slots=True)
class Ready:
    """A model that can be trained and asked."""

    model: VideoLM
    encoder: ConversationEncoder
    parameters: dict[str, torch.nn.Parameter]
    """What is trained."""
    surgery: str
    compute: ComputeContext


def prepare(cell: Cell, sources: Sources) -> Ready:
    """Load the base, start its fresh parts, its extra queries and its LoRA from the cell's seed, freeze the rest."""
    recipe = cell.recipe
    model, encoder = load(sources.model, LOAD_DTYPES[recipe.precision])
    reinitialize(model, cell.seed)
    surgery = resize_extra_queries(
        model, cell.condition.extra_num_query_tokens, cell.condition.extra_init.replace("none", "normal"), cell.seed
    )
    if recipe.lora_rank:
        new_adapter(model, recipe.lora_rank, cell.seed)
    else:
        disable_lora_dropout(model)
    parameters = choose_trainable(model, recipe.train_language_model, bool(recipe.lora_rank))
    for parameter in parameters.values():
        parameter.data = parameter.data.float()  # a language model that is trained was loaded in the frozen parts' precision
    return Ready(model, encoder, parameters, str(surgery), compute_context(model, recipe.precision, recipe.checkpointing))


def counted(ready: Ready) -> tuple[int, int]:
    """(trainable, frozen) parameters."""
    trainable = sum(p.numel() for p in ready.parameters.values())
    return trainable, sum(p.numel() for p in ready.model.parameters()) - trainable


def plan_of(cell: Cell) -> TrainPlan:
    recipe, condition = cell.recipe, cell.condition
    rules = AccumulationRules(
        cast(Any, condition.loss_norm), cast(Any, condition.clip_per), cast(Any, condition.lr_step_per), recipe.max_grad_norm
    )
    return TrainPlan(
        condition.micro_batch_size,
        condition.accumulate_grad_batches,
        cell.learning_rate,
        recipe.warm_up,
        recipe.min_lr_ratio,
        recipe.weight_decay,
        recipe.betas,
        recipe.longest,
        rules,
        condition.extra_lr,
        condition.mixing == "mixed" or recipe.image_share in (0, 1),
    )


def training_of(
    ready: Ready,
    samples: Sequence[Sample],
    lookup: Callable[[str], Tensor],
    plan: TrainPlan,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Training:
    return Training(ready.model, ready.parameters, samples, lookup, ready.encoder, plan, ready.compute, group)


def ask(
    ready: Ready,
    items: Sequence[Item],
    control: str,
    features: Callable[[str], Features],
    report: Callable[[int], None],
    how: Sequence[str] = (LIKELIHOOD,),
) -> dict[str, list[Scores]]:
    """Scores of every item under a control, in their order, by scorer."""
    asked, seen = apply_control(control, items, features, lambda medium: blank_features(ready.model, medium))
    real = {item.id: item for item in items}
    found: dict[tuple[str, str], Scores] = {}
    with ready.compute.autocast():
        for group in score(ready.model, ready.encoder, asked, seen.__getitem__, how):
            found |= {(one.how, one.item.id): replace(one, item=real[one.item.id]) for one in group}
            report(len(found) // len(how))
    return {one: [found[one, item.id] for item in items] for one in how}


def blank_features(model: VideoLM, medium: str) -> Tensor:
    """Features of a clip in which every pixel has the mean color: no visual information, but no foreign input either."""
    frames = model.config.num_frames if medium == "video" else 1
    side = model.config.vision_config.image_size
    mean = np.round(255 * np.array(model.config.image_mean or CLIP_MEAN)).astype(np.uint8)
    clip = np.broadcast_to(mean, (frames, side, side, 3))
    with torch.inference_mode():
        pixels = normalize_frames([clip], model.config.image_mean, model.config.image_std)
        return model.vision_features(pixels.to(model.device, vision_dtype(model)))[0].cpu()


def summarise(answers: Mapping[str, Sequence[Scores]]) -> dict[str, Any]:
    """Accuracies of a cell, over items, over tasks and a task, as it is and under every control."""
    scores = answers[FULL]
    right = {control: [float(one.predicted == one.item.answer) for one in given] for control, given in answers.items()}
    right_per_token = [float(one.predicted_per_token == one.item.answer) for one in scores]
    clusters = [one.item.cluster for one in scores]
    chances = [1 / len(one.item.options) for one in scores]

    def over(values: Sequence[float], rows: Sequence[int]) -> ClusteredMean:
        return clustered_mean([values[row] for row in rows], [clusters[row] for row in rows])

    def controls(rows: Sequence[int]) -> dict[str, ClusteredMean]:
        return {control: over(values, rows) for control, values in right.items() if control != FULL}

    def gain(control: str) -> ClusteredMean:
        if control not in right:
            return ClusteredMean(None, None, 0)
        return over([a - b for a, b in zip(right[FULL], right[control], strict=True)], everything)

    everything = range(len(scores))
    tasks = []
    for task in dict.fromkeys(one.item.task for one in scores):
        rows = [row for row in everything if scores[row].item.task == task]
        tasks.append(
            TaskScore(
                task,
                over(right[FULL], rows),
                over(right_per_token, rows),
                controls(rows),
                float(np.mean([chances[row] for row in rows])),
            )
        )
    macro = [task.accuracy.value for task in tasks if task.accuracy.value is not None]
    return {
        "accuracy": over(right[FULL], everything),
        "accuracy_macro": float(np.mean(macro)) if macro else None,
        "accuracy_per_token": over(right_per_token, everything),
        "controls": controls(everything),
        "visual_gain": gain(BLIND),
        "temporal_gain": gain(SHUFFLED),
        "chance": float(np.mean(chances)),
        "tasks": tuple(tasks),
    }


def _as_rows(steps: Iterable[Step]) -> list[dict[str, object]]:
    return [{name: getattr(step, name) for name in TRAIN_COLUMNS} for step in steps]


def _choice(ways: Sequence[Scores]) -> dict[str, object]:
    """One item as every scorer reads it."""
    item = ways[0].item
    row: dict[str, object] = {"item": item.id, "task": item.task, "cluster": item.cluster, "gold": item.answer}
    for one in ways:
        row[one.how] = one.predicted
        if one.how == GENERATE:
            row |= {"official_check": int(official_check(one.text, item.answer)), "text": one.text}
    return row


def _answer(control: str, one: Scores) -> dict[str, object]:
    item = one.item
    return {
        "control": control,
        "item": item.id,
        "task": item.task,
        "cluster": item.cluster,
        "gold": item.answer,
        "predicted": one.predicted,
        "predicted_per_token": one.predicted_per_token,
        "correct": int(one.predicted == item.answer),
        "correct_per_token": int(one.predicted_per_token == item.answer),
        "options": len(item.options),
        "scores": ";".join(f"{total:.6g}" for total in one.total),
        "tokens": ";".join(map(str, one.tokens)),
    }
