"""Measures the time of `qtablate sweep` against a loop of processes that train with transformers' Trainer and then generate.

    python tests/benchmarks/vs_trainer.py [--samples N] [--items-per-task N] [--jobs N] [--side loop|ours|both] [--out FOLDER]

Both sides run one grid, extra query tokens 0 and 32 by accumulation 1 and 4 by two seeds, with the defaults of the package: the
same samples in the same order from the same initial values, the same optimizer and schedule, one thread per process and as many
processes at once.

- The loop starts a process per cell, as common scripts do. Trainer reads pixels through a dataset and a collator; the frozen
  vision encoder runs in every step. Then each question is asked alone, with its clip and again with a blank one: encode the
  pixels, read the prompt, generate greedily with a key-value cache, and match the answer to the options. Each clip is rendered
  once per process. Decoding is a plain loop, since transformers' `generate` took about twice as long for the same tokens. An
  answer that names no option is replaced by greedy decoding among the options, which needs no second reading of the prompt.
- The sweep runs as a user starts it, once with an empty cache of features and once more with the full one.

Writes vs_trainer.md and, with a row per cell, vs_trainer.csv. Losses of the first steps and accuracies of both sides are
compared, so that the times are those of the same work.
"""

import argparse
import csv
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import DynamicCache

from qtablate.cell.build import PreparedModel, build_model, train_plan
from qtablate.cell.process import host
from qtablate.cell.sample_order import training_samples
from qtablate.config import DataConfig, validate_config
from qtablate.controls import BLIND, FULL
from qtablate.data.sources import open_benchmark, open_training
from qtablate.datatypes import VIDEO, Clips, Frames, Item, Sample
from qtablate.execute.resources import cores
from qtablate.grid import Cell
from qtablate.model.directory import read_config
from qtablate.model.encode import ConversationEncoder, collate
from qtablate.model.preprocess import CLIP_MEAN, normalize_frames
from qtablate.model.video_lm import VideoLM
from qtablate.statistics.clustered import ClusteredMean, clustered_mean
from qtablate.store import Store
from qtablate.sweep.plan import make_plan
from qtablate.train.batches import stack_by_shape, supervised_tokens, visual_tokens
from qtablate.train.schedule import learning_rate, optimizer_steps
from qtablate.train.trainable import build_optimizer

GRID = {"tokens": "0,32", "accum": "1,4", "seeds": "101,102", "controls": BLIND}
SECTIONS = {
    "grid": ("tokens", "accum", "seeds"),
    "train": ("samples",),
    "eval": ("controls",),
    "data": ("items_per_task",),
    "run": ("jobs",),
}
"""Sections of a configuration, with the settings that are given here; all others have the package's defaults."""
MAX_NEW_TOKENS = 8
COMPARED_STEPS = 20
LOOP, COLD, WARM = "loop", "sweep, empty cache", "sweep, full cache"
REST, ENCODER, TRAINING, EVALUATION = "start and idle", "clips and vision encoder", "rest of training", "rest of evaluation"
PARTS = (REST, ENCODER, TRAINING, EVALUATION)
WORK = ("training", "evaluation")
Z95 = 1.96


@dataclass(frozen=True, slots=True)
class CellRun:
    """One cell on one side."""

    cell: Cell
    training_seconds: float
    evaluation_seconds: float
    training_encoder_seconds: float
    """Rendering, normalizing and encoding clips, among those of training."""
    evaluation_encoder_seconds: float
    losses: Sequence[float]
    """Of each optimizer step."""
    answers: Sequence[Mapping[str, Any]]
    """A row per control and item: control, item, cluster, correct and, on the loop's side, free (it named an option)."""

    def correct(self, control: str) -> dict[tuple[str, str], float]:
        """Return 1 for a correct answer and 0 for an incorrect one, by item and cluster."""
        return {(row["item"], row["cluster"]): float(row["correct"]) for row in self.answers if row["control"] == control}


@dataclass(frozen=True, slots=True)
class SideRun:
    """All cells of the grid on one side."""

    name: str
    wall_seconds: float
    jobs: int
    cells: list[CellRun]

    def part_seconds(self) -> dict[str, float]:
        """Return core-seconds per cell by part; their sum is that of the wall time."""
        count = len(self.cells)
        encoder = sum(run.training_encoder_seconds + run.evaluation_encoder_seconds for run in self.cells) / count
        training = sum(run.training_seconds - run.training_encoder_seconds for run in self.cells) / count
        evaluation = sum(run.evaluation_seconds - run.evaluation_encoder_seconds for run in self.cells) / count
        rest = self.wall_seconds * self.jobs / count - encoder - training - evaluation
        return dict(zip(PARTS, (rest, encoder, training, evaluation), strict=True))


# The loop: what one process does. It uses the package for the model, the data and their order alone.


class PixelEncoder:
    """The frozen vision encoder and the clips that it reads, each rendered once; `seconds` counts what both take."""

    def __init__(self, model: VideoLM) -> None:
        self.model, self.seconds = model, 0.0
        self._frames: dict[str, Frames] = {}

    def pixels(self, clips: Clips, clip: str) -> Tensor:
        """Return the normalized pixels (T, 3, H, W) of a clip."""
        with self._timed():
            if clip not in self._frames:
                self._frames[clip] = clips.frames(clip)
            return self._normalize(self._frames[clip])

    def blank_pixels(self) -> Tensor:
        """Return the normalized pixels (T, 3, H, W) of a video in which every pixel has the mean color."""
        config = self.model.config
        size = config.vision_config.image_size
        mean = np.round(255 * np.array(config.image_mean or CLIP_MEAN)).astype(np.uint8)
        return self._normalize(np.broadcast_to(mean, (config.num_frames, size, size, 3)))

    def features(self, pixels: Tensor) -> Tensor:
        """Encode (B, T, 3, H, W) pixels without a gradient."""
        with torch.no_grad(), self._timed():
            return self.model.vision_features(pixels)

    def _normalize(self, frames: Frames) -> Tensor:
        return normalize_frames([frames], self.model.config.image_mean, self.model.config.image_std)[0]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began


class SampleDataset(Dataset[tuple[Sample, Tensor]]):
    """Training samples with the pixels of their clips."""

    def __init__(self, samples: Sequence[Sample], clips: Clips, pixel_encoder: PixelEncoder) -> None:
        self._samples, self._clips, self._pixel_encoder = samples, clips, pixel_encoder

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, number: int) -> tuple[Sample, Tensor]:
        sample = self._samples[number]
        return sample, self._pixel_encoder.pixels(self._clips, sample.clip)


def collate_batch(
    rows: Sequence[tuple[Sample, Tensor]], encoder: ConversationEncoder, visual_count: int, max_text_tokens: int
) -> dict[str, Any]:
    """Tokenize and pad the conversations of a micro-batch, and stack clips of one shape."""
    samples, pixels = zip(*rows, strict=True)
    text = collate(encoder, samples, [visual_count] * len(samples), max_text_tokens)
    positions = torch.arange(text.input_ids.shape[1])
    return {
        "input_ids": text.input_ids,
        "labels": text.labels,
        "attention_mask": (positions[None] < torch.tensor(text.lengths)[:, None]).long(),
        "visual_mask": text.visual_mask,
        "clips": stack_by_shape(pixels),
    }


class TrainedModel(nn.Module):
    """The model as Trainer calls it: pixels and token ids -> the language model's own loss."""

    accepts_loss_kwargs = True

    def __init__(self, model: VideoLM, pixel_encoder: PixelEncoder) -> None:
        super().__init__()
        self.model, self.pixel_encoder = model, pixel_encoder
        self.losses: list[Tensor] = []
        """Of each micro-batch: its summed token loss per token of the window."""

    def forward(
        self,
        input_ids: Tensor,
        labels: Tensor,
        attention_mask: Tensor,
        visual_mask: Tensor,
        clips: Sequence[tuple[Tensor, Tensor]],
        num_items_in_batch: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss of a micro-batch; `clips` are (rows, pixels) for each shape of clips."""
        features = [(rows, self.pixel_encoder.features(pixels)) for rows, pixels in clips]
        embeds = self.model.embed(input_ids, visual_tokens(self.model, features), visual_mask)
        out = self.model.language_model(
            inputs_embeds=embeds,
            attention_mask=attention_mask,
            labels=labels,
            use_cache=False,
            num_items_in_batch=num_items_in_batch,
        )
        self.losses.append(out.loss.detach())
        return {"loss": out.loss}


def train(cell: Cell, prepared: PreparedModel, dataset: SampleDataset, pixel_encoder: PixelEncoder) -> list[float]:
    """Train with Trainer, one pass over the dataset in its order, and return the loss of each optimizer step."""
    plan, model = train_plan(cell), TrainedModel(prepared.model, pixel_encoder)
    steps = optimizer_steps(len(dataset), plan.micro_batch_size, plan.accumulate_grad_batches)
    optimizer = build_optimizer(prepared.parameters, plan.learning_rate, plan.weight_decay, plan.betas, plan.extra_lr)
    for group in optimizer.param_groups:
        group["lr"] *= group["factor"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step, steps, 1.0, plan.warmup_ratio, plan.min_lr_ratio)
    )
    visual_count, max_text_tokens = prepared.model.num_queries, plan.max_text_tokens
    with tempfile.TemporaryDirectory() as folder:
        arguments = transformers.TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=plan.micro_batch_size,
            gradient_accumulation_steps=plan.accumulate_grad_batches,
            num_train_epochs=1,
            max_grad_norm=plan.rules.max_grad_norm or 0.0,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            dataloader_num_workers=0,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        )
        trainer = transformers.Trainer(
            model,
            arguments,
            data_collator=cast(Any, lambda rows: collate_batch(rows, prepared.encoder, visual_count, max_text_tokens)),
            train_dataset=dataset,
            optimizers=(optimizer, schedule),
        )
        trainer.train()
    losses = [float(loss) for loss in model.losses]
    window = plan.accumulate_grad_batches
    return [sum(losses[start : start + window]) for start in range(0, len(losses), window)]


def next_logits(model: VideoLM, cache: DynamicCache, **tokens: Tensor) -> Tensor:
    """Read one row of tokens behind what is in the cache and return the logits (V,) of the token that follows."""
    return model.language_model(past_key_values=cache, use_cache=True, logits_to_keep=1, **tokens).logits[0, -1]


def generate(model: VideoLM, cache: DynamicCache, logits: Tensor, end: int) -> list[int]:
    """Generate greedily until the end marker, which is left out."""
    ids: list[int] = []
    while (token := int(logits.argmax())) != end:
        ids.append(token)
        if len(ids) == MAX_NEW_TOKENS:
            break
        logits = next_logits(model, cache, input_ids=torch.tensor([[token]]))
    return ids


def choose(model: VideoLM, cache: DynamicCache, logits: Tensor, options: Sequence[Sequence[int]]) -> int:
    """Decode greedily among the tokens that continue an option, until one option is left; return its index."""
    left, length = list(range(len(options))), 0
    while True:
        token = max((options[number][length] for number in left), key=lambda token: float(logits[token]))
        left, length = [number for number in left if options[number][length] == token], length + 1
        if len(left) == 1:
            return left[0]
        logits = next_logits(model, cache, input_ids=torch.tensor([[token]]))


def named_option(answer: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that an answer is, whatever its case; None where it is none of them."""
    texts = [option.strip().lower() for option in options]
    answer = answer.strip().lower()
    return texts.index(answer) if answer in texts else None


def answer(prepared: PreparedModel, item: Item, features: Tensor) -> tuple[int, bool]:
    """Return the option that the model answers with, and whether what it generated freely named it."""
    model, encoder = prepared.model, prepared.encoder
    question, cache = encoder.encode_item(item), DynamicCache()
    before, behind = (model.embed(torch.tensor([ids])) for ids in (question.prefix, question.context))
    prompt = torch.cat([before, model.visual_tokens(features), behind], dim=1)
    logits = next_logits(model, cache, inputs_embeds=prompt)
    generated = generate(model, cache, logits, cast(int, encoder.tokenizer.eos_token_id))
    named = named_option(encoder.decode(generated), item.options)
    if named is not None:
        return named, True
    if read := cache.get_seq_length() - prompt.shape[1]:
        cache.crop(-read)
    return choose(model, cache, logits, question.options), False


@torch.inference_mode()
def evaluate(
    prepared: PreparedModel, items: Sequence[Item], pixel_encoder: PixelEncoder, pixels: Callable[[str], Tensor], control: str
) -> list[dict[str, Any]]:
    """Ask each item alone, from the pixels of its clip; return a row for each."""
    prepared.model.eval()
    rows = []
    for item in items:
        predicted, free = answer(prepared, item, pixel_encoder.features(pixels(item.clip)[None]))
        correct = int(predicted == item.answer)
        rows.append({"control": control, "item": item.id, "cluster": item.cluster, "correct": correct, "free": int(free)})
    return rows


def run_loop_cell(file: Path) -> None:
    """Run a cell of the loop in this process; the pickle names it, and its figures are written beside it as json."""
    cell, data = cast(tuple[Cell, DataConfig], pickle.loads(file.read_bytes()))
    torch.set_num_threads(1)
    prepared = build_model(cell, data)
    prepared.model.language_model.set_attn_implementation("sdpa")  # without the package's own, which packs sequences
    settings, config = cell.settings, {**read_config(data.model), "num_frames": cell.condition.frames}
    training, benchmark = open_training(data, config, settings.samples, settings.image_ratio), open_benchmark(data, config)
    samples = training_samples(
        cell,
        training.samples,
        training.weights,
        lambda sample: supervised_tokens(sample, prepared.encoder, settings.max_text_tokens),
    )
    items = list(benchmark.items)
    if {item.medium for item in items} != {VIDEO}:
        raise ValueError("the blank clip is a video, and an item asks about an image")
    pixel_encoder = PixelEncoder(prepared.model)
    began = time.perf_counter()
    losses = train(cell, prepared, SampleDataset(samples, training, pixel_encoder), pixel_encoder)
    trained, training_encoder_seconds = time.perf_counter(), pixel_encoder.seconds
    blank = pixel_encoder.blank_pixels()
    answers = evaluate(prepared, items, pixel_encoder, lambda clip: pixel_encoder.pixels(benchmark, clip), FULL)
    answers += evaluate(prepared, items, pixel_encoder, lambda clip: blank, BLIND)
    figures = {
        "training_seconds": trained - began,
        "evaluation_seconds": time.perf_counter() - trained,
        "training_encoder_seconds": training_encoder_seconds,
        "evaluation_encoder_seconds": pixel_encoder.seconds - training_encoder_seconds,
        "losses": losses,
        "answers": answers,
    }
    file.with_suffix(".json").write_text(json.dumps(figures))


# Both sides, from outside.


def run_loop(cells: Sequence[Cell], data: DataConfig, jobs: int, folder: Path) -> SideRun:
    """Run a process for each cell, as many at once as there are jobs."""

    def run(cell: Cell) -> CellRun:
        file = folder / f"{cell.key}.pickle"
        file.write_bytes(pickle.dumps((cell, data)))
        run_process([sys.executable, __file__, "--cell", str(file)], OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        return CellRun(cell, **json.loads(file.with_suffix(".json").read_text()))

    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        runs = list(pool.map(run, cells))
    return SideRun(LOOP, time.perf_counter() - began, jobs, runs)


def run_sweep(name: str, cells: Sequence[Cell], settings: Mapping[str, Any], cache: Path, out: Path) -> SideRun:
    """Run `qtablate sweep` with a folder of cached features and read what its cells measured."""
    options = [text for key, value in settings.items() for text in (f"--{key.replace('_', '-')}", str(value))]
    began = time.perf_counter()
    run_process([sys.executable, "-m", "qtablate", "sweep", *options, "--out", str(out)], QTABLATE_CACHE=str(cache))
    wall, store, runs = time.perf_counter() - began, Store(out), []
    for cell in cells:
        record = store.read_finished(cell.key)
        if record is None or record.figures is None:
            raise SystemExit(f"the sweep has not finished cell {cell.key}")
        train_rows, answers = (read_csv(store.cell_file(cell.key, file)) for file in ("train.csv", "answers.csv"))
        figures, losses = record.figures, [float(row["loss"]) for row in train_rows]
        evaluation_seconds = figures["eval_seconds"] + figures["control_seconds"]
        runs.append(CellRun(cell, figures["train_seconds"], evaluation_seconds, 0.0, 0.0, losses, answers))
    return SideRun(name, wall, int(settings["jobs"]), runs)


def run_process(command: Sequence[str], **environment: str) -> None:
    """Run a command with its output kept back, which is shown where it fails."""
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# What is reported.


def largest_loss_difference(one: SideRun, other: SideRun) -> float:
    """Return the largest difference of a step's loss between two sides, over the first steps of all cells."""
    return max(
        abs(a - b)
        for mine, others in zip(one.cells, other.cells, strict=True)
        for a, b in zip(mine.losses[:COMPARED_STEPS], others.losses[:COMPARED_STEPS], strict=True)
    )


def by_condition(side: SideRun) -> dict[tuple[int, int], list[CellRun]]:
    """Group runs by extra query tokens and accumulation."""
    groups: dict[tuple[int, int], list[CellRun]] = defaultdict(list)
    for run in side.cells:
        groups[run.cell.condition.extra_num_query_tokens, run.cell.condition.accumulate_grad_batches].append(run)
    return groups


def mean_correct(runs: Sequence[CellRun], control: str) -> dict[tuple[str, str], float]:
    """Average the correctness of each item over the seeds."""
    each = [run.correct(control) for run in runs]
    return {item: sum(one[item] for one in each) / len(each) for item in each[0]}


def over_items(values: Mapping[tuple[str, str], float]) -> ClusteredMean:
    """Average over items, with a standard error clustered by clip."""
    return clustered_mean(list(values.values()), [cluster for _, cluster in values])


def percent(mean: ClusteredMean) -> str:
    """Format a mean with its standard error, in percent."""
    stderr = "" if mean.stderr is None else f" ± {100 * mean.stderr:.1f}"
    return f"{100 * (mean.value or 0.0):.1f}{stderr}"


def covers_zero(mean: ClusteredMean) -> str:
    """Tell whether a mean's 95 % interval covers zero."""
    if mean.value is None or mean.stderr is None:
        return "no interval"
    return "yes" if abs(mean.value) <= Z95 * mean.stderr else "NO"


def wall_rows(sides: Sequence[SideRun]) -> Iterator[list[str]]:
    for side in sides:
        ratio = f"{sides[0].wall_seconds / side.wall_seconds:.1f}"
        yield [side.name, str(len(side.cells)), str(side.jobs), f"{side.wall_seconds:.1f}", ratio]


def part_rows(sides: Sequence[SideRun]) -> Iterator[list[str]]:
    """Yield a row per part: core-seconds per cell on each side and the part's share of what the sweep saves."""
    seconds = [part_seconds(side, sides) for side in sides]
    saved = {part: seconds[0][part] - seconds[1][part] for part in PARTS} if has_both(sides) else {}
    total = sum(saved.values())
    for part in PARTS:
        share = [f"{100 * saved[part] / total:.0f} %" if total > 0 else "nothing saved"] if saved else []
        yield [part, *(f"{one[part]:.2f}" for one in seconds), *share]
    yield ["sum", *(f"{sum(one.values()):.2f}" for one in seconds), *([""] if saved else [])]


def has_both(sides: Sequence[SideRun]) -> bool:
    """Tell whether loop and sweep were measured: they are the first two sides then."""
    return sides[0].name == LOOP and len(sides) > 1


def part_seconds(side: SideRun, sides: Sequence[SideRun]) -> dict[str, float]:
    """Return core-seconds per cell by part. What a sweep needs more with an empty cache than with a full one encodes clips."""
    parts = side.part_seconds()
    warm = next((one.part_seconds() for one in sides if one.name == WARM), None)
    if side.name == COLD and warm:
        parts |= {REST: warm[REST], ENCODER: parts[REST] - warm[REST]}
    return parts


def condition_rows(sides: Sequence[SideRun]) -> Iterator[list[str]]:
    """Yield a row per condition: seconds of training and of evaluation per cell on each side, encoding included."""
    groups = [by_condition(side) for side in sides]
    for condition in groups[0]:
        row = [str(level) for level in condition]
        for part in WORK:
            row += [f"{np.mean([getattr(run, f'{part}_seconds') for run in group[condition]]):.2f}" for group in groups]
        yield row


def accuracy_rows(sides: Sequence[SideRun]) -> Iterator[list[str]]:
    """Yield a row per condition and control: accuracy on each side and their difference, paired by item."""
    groups = [by_condition(side) for side in sides]
    for condition in groups[0]:
        for control in (FULL, BLIND):
            correct = [mean_correct(group[condition], control) for group in groups]
            row = [*map(str, condition), control, *(percent(over_items(one)) for one in correct)]
            if len(correct) > 1:
                difference = over_items({item: correct[1][item] - value for item, value in correct[0].items()})
                row += [percent(difference), covers_zero(difference)]
            yield row


def cell_rows(sides: Sequence[SideRun]) -> Iterator[dict[str, object]]:
    """Yield a row per side and cell for the CSV file."""
    for side in sides:
        for run in side.cells:
            free = [int(row["free"]) for row in run.answers if "free" in row]
            yield {
                "side": side.name,
                "wall_seconds": f"{side.wall_seconds:.3f}",
                "jobs": side.jobs,
                "extra_num_query_tokens": run.cell.condition.extra_num_query_tokens,
                "accumulate_grad_batches": run.cell.condition.accumulate_grad_batches,
                "seed": run.cell.seed,
                "steps": len(run.losses),
                "training_seconds": f"{run.training_seconds:.3f}",
                "training_encoder_seconds": f"{run.training_encoder_seconds:.3f}",
                "evaluation_seconds": f"{run.evaluation_seconds:.3f}",
                "evaluation_encoder_seconds": f"{run.evaluation_encoder_seconds:.3f}",
                "first_loss": f"{run.losses[0]:.6f}",
                "last_loss": f"{run.losses[-1]:.6f}",
                "accuracy": f"{over_items(run.correct(FULL)).value:.4f}",
                "blind_accuracy": f"{over_items(run.correct(BLIND)).value:.4f}",
                "answers_naming_an_option": f"{np.mean(free):.4f}" if free else "",
            }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Format a Markdown table, numbers on the right."""
    rows = list(rows)
    align = ["---:" if all(row[column][:1] in "-0123456789" for row in rows) else "---" for column in range(len(head))]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, align, *rows))


def report(sides: Sequence[SideRun], settings: Mapping[str, Any], cells: Sequence[Cell], load: float) -> str:
    """Write the Markdown text; `load` is the machine's load average before the measurement."""
    names, used = [side.name for side in sides], cells[0].settings
    words = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in settings.items())
    lines = [
        "# A sweep against a loop of Trainer runs",
        "",
        f"`qtablate sweep {words}`: {len(cells)} cells of {used.budget_in_words}, each scored on "
        f"{len(sides[0].cells[0].correct(FULL))} items, with the clip and blind; peak learning rate {used.learning_rate:g}.",
        "What the loop does: `python tests/benchmarks/vs_trainer.py --help`.",
        "",
        f"Machine: {cores()} usable cores, {host()}, torch {torch.__version__}, transformers {transformers.__version__}; load "
        f"average before: {load:.1f}. One thread per process.",
        "",
        "## Wall time",
        "",
        table(["side", "cells", "processes at once", "seconds", f"{names[0]} / this"], wall_rows(sides)),
        "## Where the time goes",
        "",
        "Core-seconds per cell: the wall time times the processes at once, divided by the number of cells. *start and idle*: "
        "all that is in no other part (imports, model, texts; of the sweep, also its plan, tables and report). The sweep "
        "encodes each clip once for all cells, which is what it takes longer with an empty cache.",
        "",
        table(["part", *names, *(["share of the saving, empty cache"] if has_both(sides) else [])], part_rows(sides)),
        "What a cell of the sweep does instead: it is a fork of a process that has imported everything and read the inputs; it "
        "trains on cached features, on sequences without padding, with logits only where a token is supervised; it reads "
        "each clip and each question once for all that continue from it, many at a time.",
        "",
        "Seconds per cell, clips and vision encoder included where they run in the cell:",
        "",
        table(["tokens", "accum", *(f"{part}, {name}" for part in WORK for name in names)], condition_rows(sides)),
        "## Is it the same work?",
        "",
    ]
    if has_both(sides):
        worst = largest_loss_difference(*sides[:2])
        lines += [f"Largest difference of the losses of the first {COMPARED_STEPS} steps, over all cells: {worst:.1e}.", ""]
    if names[0] == LOOP:
        free = np.mean([row["free"] for run in sides[0].cells for row in run.answers if row["control"] == FULL])
        lines += [f"With the clip, {100 * free:.1f} % of the loop's answers name an option by themselves.", ""]
    compared = sides[:2] if has_both(sides) else sides[:1]
    head = ["tokens", "accum", "control", *(f"accuracy, {side.name}" for side in compared)]
    head += ["difference", "95 % interval covers 0"] if len(compared) > 1 else []
    lines += [
        "Accuracy in percent ± standard error, clustered by clip, of the answers averaged over the seeds. The sweep scores by "
        "the likelihood of whole options. Differences are those of the sweep minus the loop, paired by item.",
        "",
        table(head, accuracy_rows(compared)),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, help="clips and images that each cell trains on (default: the package's)")
    parser.add_argument("--items-per-task", type=int, help="items per task at most (default: the package's)")
    parser.add_argument("--jobs", type=int, default=cores(), help="processes at once (default: the number of cores)")
    parser.add_argument("--side", choices=("loop", "ours", "both"), default="both", help="which side is measured")
    parser.add_argument("--out", type=Path, default=Path("results/speed"), help="folder of the two files")
    parser.add_argument("--cell", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.cell:
        run_loop_cell(asked.cell)
        return
    torch.set_num_threads(1)
    sized = {"samples": asked.samples, "items_per_task": asked.items_per_task, "jobs": asked.jobs}
    settings = {**GRID, **{key: value for key, value in sized.items() if value is not None}}
    config = validate_config({part: {key: settings[key] for key in keys if key in settings} for part, keys in SECTIONS.items()})
    cells, load, sides = make_plan(config).cells, os.getloadavg()[0], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.side != "ours":
            sides.append(run_loop(cells, config.data, asked.jobs, folder))
        if asked.side != "loop":
            for number, side in enumerate((COLD, WARM)):
                sides.append(run_sweep(side, cells, settings, folder / "cache", folder / f"sweep-{number}"))
    text = report(sides, settings, cells, load)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "vs_trainer.md").write_text(text)
    rows = list(cell_rows(sides))
    with (asked.out / "vs_trainer.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(text)


if __name__ == "__main__":
    main()
