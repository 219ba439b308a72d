"""A sweep: which cells there are, which are still to run, in which order, and what is written when they are done.

This module never imports torch: processes that need it are started by the executor.
"""

import dataclasses
import hashlib
import json
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtablate.axes import AXES, incorrect_levels, told
from qtablate.cell.jobs import CellJob, FeatureJob, Probed, ProbeJob
from qtablate.cli.progress import clock
from qtablate.data.sources import Sources, is_world, open_benchmark, open_training, trains_on_world_only
from qtablate.data.temporal import PERTURBATIONS
from qtablate.datatypes import Clips, Problem, TrainingData
from qtablate.errors import DataError, GridError, StoreError
from qtablate.execute.events import Event
from qtablate.execute.local import gpus, run_jobs
from qtablate.grid import RECORD_SCHEMA, Budget, Cell, Condition, Fingerprints, Grid, Recipe, check, condition_names
from qtablate.model.cache import limit_bytes, prune
from qtablate.model.directory import base_scores, fingerprint, read_config, visual_tokens
from qtablate.model.features import FeatureFiles
from qtablate.model.query_resize import QueryResize
from qtablate.records import of_cell
from qtablate.report.folder import validate_overwrite
from qtablate.report.frames import write_tables
from qtablate.store import Store
from qtablate.sweep.forecast import SECONDS, Estimate, Forecast, Load, forecast, makespan, probe_order
from qtablate.table import Table
from qtablate.train.schedule import optimizer_steps
from qtablate.versions import deciding, versions
from qtablate.video.isolated import RETRYABLE, decode_timeout

SAMPLES = 4800
MAX_BAD = 0.1
WORLD_IMAGES = 0.125
# the original's values (videochat2_mistral config_7b_stage3.py), but for the rate, which is the model's own
BETAS, WEIGHT_DECAY, MIN_LR_RATIO = (0.9, 0.999), 0.02, 0.25


@dataclass(frozen=True, slots=True)
class Smoke:
    """The grid that CI runs."""

    tokens: str = "0,8"
    accum: str = "1,2"
    seeds: str = "1"
    samples: int = 2400
    items: int = 40


SMOKE = Smoke()
Events = Generator[Event, None, None]
Followed = Callable[[Events, int], Events]


@dataclass(frozen=True)
class Sweep:
    """Everything that is settled before a cell runs."""

    store: Store
    sources: Sources
    grid: Grid
    recipe: Recipe
    cells: list[Cell]
    training: FeatureFiles
    benchmark: FeatureFiles
    item_problems: list[Problem]
    sample_problems: list[Problem]
    """What was refused when the files were read."""
    items_of: dict[str, list[str]]
    """Ids of the items of each clip of the benchmark."""
    num_query_tokens: int
    workers: int
    """Cells at once."""
    samples_of: Counter[str]
    """How many samples each clip of the training data has; those that were refused stand under no name."""
    max_bad: float
    """Share of the training samples, and of the items, that may be bad."""
    save_every: float | None
    """Seconds between two checkpoints of a cell's training."""
    read_as: Fingerprints
    """Of model and files alone, whatever of them could be decoded."""
    ranks: int = 1
    """Processes that train one cell together."""
    entries: int = 0
    """Items that the benchmark's files hold, usable or not, drawn or not."""

    @property
    def processes(self) -> int:
        """At once."""
        return self.workers * self.ranks

    @property
    def n_items(self) -> int:
        return sum(map(len, self.items_of.values()))

    def to_run(self) -> list[Cell]:
        return [cell for cell in self.cells if not self.store.finished(cell.key)]

    def chunks_missing(self) -> int:
        return len(self.training.missing()) + len(self.benchmark.missing())


def plan(
    store: Store,
    sources: Sources,
    grid: Grid,
    recipe: Recipe,
    cache: Path,
    workers: int,
    max_bad: float = MAX_BAD,
    save_every: float | None = None,
    ranks: int = 1,
) -> Sweep:
    """Read the sources, check the grid, and lay out all cells. Nothing is written. Raises QtablateError."""
    check(grid, recipe, ranks)
    decode_timeout(), limit_bytes()  # raise where the environment's values are none
    if 0 < len(gpus()) < ranks:
        raise GridError(
            f"--ranks {ranks} want a GPU each, and there are {len(gpus())}: use fewer, or set CUDA_VISIBLE_DEVICES to nothing "
            "to train on the CPU"
        )
    config = read_config(sources.model)
    if recipe.diagnose and (config["model_type"] != "videochat2" or config["qformer_text"]):
        raise GridError(
            "--diagnose looks at VideoChat2's Q-Former, over all frames at once and without text; this model has another: "
            "leave it out"
        )
    training = open_training(sources, config, recipe.samples, recipe.image_share)
    benchmark = open_benchmark(sources, config)
    if not benchmark.items:
        raise DataError(f"--bench {sources.bench} holds no usable question: {_first(benchmark.problems)}")
    refuse_misfit(sources, config, training, recipe, max(grid.tokens))
    items_of: dict[str, list[str]] = {}
    for item in benchmark.items:
        items_of.setdefault(item.clip, []).append(item.id)
    software = deciding(media=not (trains_on_world_only(sources) and is_world(sources.bench)))
    prints = Fingerprints(fingerprint(sources.model), training.fingerprint, benchmark.fingerprint, software)
    sweep = Sweep(
        store,
        sources,
        grid,
        recipe,
        grid.cells(recipe, prints),
        _files(cache, prints, training, (), recipe.precision),
        _files(cache, prints, benchmark, tuple(c for c in PERTURBATIONS if c in recipe.controls), recipe.precision),
        list(benchmark.problems),
        list(training.problems),
        items_of,
        config["num_query_tokens"],
        workers,
        Counter({"": len(training.problems)})
        if trains_on_world_only(sources)
        else Counter([*(sample.clip for sample in training.samples), *("" for _ in training.problems)]),
        max_bad,
        save_every,
        prints,
        ranks,
        getattr(benchmark, "entries", len(benchmark.items) + len(benchmark.problems)),
    )
    refuse_bad(sweep)
    return settled(sweep)


def settled(sweep: Sweep) -> Sweep:
    """The sweep with cells that are named by what took too long, too, as far as features are made.

    Another try may read these clips: cells made without them are other cells than those made with them.
    """
    prints = Fingerprints(
        sweep.read_as.model,
        _without(sweep.read_as.training, sweep.training),
        _without(sweep.read_as.benchmark, sweep.benchmark),
        sweep.read_as.software,
    )
    return dataclasses.replace(sweep, cells=sweep.grid.cells(sweep.recipe, prints))


def _without(fingerprint: str, files: FeatureFiles) -> str:
    lost = [] if files.missing() else [one.subject for one in files.problems() if one.kind in RETRYABLE]
    return hashlib.sha256("\n".join([fingerprint, *lost]).encode()).hexdigest()[:16] if lost else fingerprint


def refuse_misfit(sources: Sources, config: Mapping[str, Any], training: TrainingData, recipe: Recipe, tokens: int) -> None:
    """Refuse more tokens than the language model has places for, and media that the data lack. Raises QtablateError."""
    places, visual = config.get("text_config", {}).get("max_position_embeddings"), visual_tokens(config, tokens)
    if isinstance(places, int) and visual + recipe.longest > places:
        raise GridError(
            f"--tokens: {tokens} extra tokens make {visual} visual ones, which leaves no room for {recipe.longest} "
            f"tokens of text in the {places} places of the language model"
        )
    for medium, share in (("image", recipe.image_share), ("video", 1 - recipe.image_share)):
        if share > 0 and not training.media().get(medium):
            raise DataError(
                f"--image-share {recipe.image_share:g} needs {medium} samples, and --train {sources.train} holds none; "
                f"use --image-share {0 if medium == 'image' else 1}"
            )


def _files(folder: Path, prints: Fingerprints, clips: Clips, altered: tuple[str, ...], precision: str) -> FeatureFiles:
    names = tuple(clips.clips())
    return FeatureFiles(folder, prints.model, names, tuple(map(clips.key, names)), altered, precision, prints.software)


def refuse_bad(sweep: Sweep) -> None:
    """Stop where more of the training samples, or of the benchmark's items, are bad than --max-bad allows: those refused when
    the files were read, and those of clips that could not be decoded. Raises DataError that names some."""
    unseen = [] if sweep.training.missing() else sweep.training.problems()
    bad = sweep.samples_of[""] + sum(sweep.samples_of[problem.subject] for problem in unseen)
    _refuse_share("training samples", bad, sweep.samples_of.total(), [*sweep.sample_problems, *unseen], sweep.max_bad)
    refused, lost = sweep.item_problems, _undecodable_items(sweep)
    if sweep.entries == sweep.n_items + len(refused):
        _refuse_share("items", len(refused) + len(lost), sweep.entries, [*refused, *lost], sweep.max_bad)
    else:  # --items has drawn some of the usable ones: each share is of what it was looked for in
        _refuse_share("items", len(refused), sweep.entries, refused, sweep.max_bad)
        _refuse_share("drawn items", len(lost), sweep.n_items, lost, sweep.max_bad)


def _refuse_share(what: str, bad: int, total: int, problems: Sequence[Problem], most: float) -> None:
    if bad > most * total:
        named = "; ".join(f"{one.subject}: {one.kind} ({one.detail})" for one in problems[:3])
        raise DataError(
            f"{bad} of {total} {what} cannot be used, more than --max-bad {most:g} allows: {named}. Mend or remove them, or "
            "raise --max-bad"
        )


def _undecodable_items(sweep: Sweep) -> list[Problem]:
    """Items whose clips could not be decoded, as far as that is known."""
    unseen = [] if sweep.benchmark.missing() else sweep.benchmark.problems()
    return [Problem(item, one.kind, one.detail) for one in unseen for item in sweep.items_of.get(one.subject, ())]


def recipe_for(
    sources: Sources,
    samples: int | None,
    image_share: float | None,
    learning_rate: float | None,
    warm_up: float,
    max_grad_norm: float | None,
    train_language_model: bool,
    controls: tuple[str, ...],
    diagnose: bool,
    lora_rank: int,
    precision: str,
    checkpointing: bool,
    scorers: tuple[str, ...],
    budget: tuple[Budget, int] | None = None,
) -> Recipe:
    """Fill what the user left open. The learning rate is the model's own; images have a part where the data has any."""
    held, size = budget or ("samples", samples or SAMPLES)
    if held == "samples":
        if samples not in (None, size):
            raise GridError(f"--budget samples {size} and --samples {samples} say two things; leave one out")
        samples, size = size, 0
    config = read_config(sources.model)
    if image_share is None:
        image_share = WORLD_IMAGES
        if not trains_on_world_only(sources):
            found = open_training(sources, config, samples or SAMPLES, WORLD_IMAGES).media()
            image_share = found.get("image", 0) / sum(found.values())
    return Recipe(
        samples=samples or SAMPLES,
        image_share=image_share,
        learning_rate=learning_rate if learning_rate is not None else config["learning_rate"],
        warm_up=warm_up,
        min_lr_ratio=MIN_LR_RATIO,
        weight_decay=WEIGHT_DECAY,
        betas=BETAS,
        max_grad_norm=max_grad_norm,
        train_language_model=train_language_model,
        longest=config["max_txt_len"],
        controls=controls,
        diagnose=diagnose,
        lora_rank=lora_rank,
        precision=precision,
        checkpointing=checkpointing,
        scorers=scorers,
        budget=held,
        budget_size=size,
    )


def feature_jobs(sweep: Sweep) -> list[tuple[str, FeatureJob]]:
    """The chunks of features that are not cached yet or whose checksum differs, split among the workers."""
    jobs = []
    for which, files in (("training", sweep.training), ("benchmark", sweep.benchmark)):
        missing = files.missing(verify_checksums=True)
        for worker in range(sweep.processes):
            chunks = tuple(missing[worker :: sweep.processes])
            if chunks:
                job = FeatureJob(sweep.sources, files, chunks, which, sweep.recipe.samples, sweep.recipe.image_share)
                jobs.append((f"{which} clips, part {worker + 1}", job))
    return jobs


def compute_features(sweep: Sweep, jobs: list[tuple[str, FeatureJob]]) -> Generator[Event, None, None]:
    """Make what is missing, and room for it: what no sweep used for long goes first, nothing of this one."""
    own = [stem for files in (sweep.training, sweep.benchmark) for stem, _ in files.chunks]
    prune(sweep.training.folder, limit_bytes(), own)
    yield from run_jobs("qtablate.cell.run:compute_features", jobs, sweep.processes)


def estimate(sweep: Sweep, followed: Followed = lambda events, _: events) -> Forecast:
    """Estimate what a cell of each condition takes on this machine: a few conditions are probed, one at a time, and the others
    follow from these (forecast.py). A probe that fails is named in the forecast; it stops nothing. `followed` gives back the
    events of the probes, one by one, and may show them; it is told how many probes there are."""
    cells: dict[Condition, Cell] = {}
    for cell in sweep.to_run():
        cells.setdefault(cell.condition, cell)
    if not cells:
        return Forecast()
    config = read_config(sweep.sources.model)
    loads = {one: Load(visual_tokens(config, one.extra_num_query_tokens), one.micro_batch_size, one.mixing) for one in cells}
    names = condition_names(list(cells))
    chosen = {names[one]: one for one in probe_order(loads)}
    jobs = [(name, ProbeJob(cells[one], sweep.sources, sweep.ranks)) for name, one in chosen.items()]
    found: dict[Condition, Probed] = {}
    failed: dict[Condition, str] = {}
    began: float | None = None
    with closing(run_jobs("qtablate.cell.run:probe", jobs, 1)) as events, closing(followed(events, len(jobs))) as shown:
        for event in shown:
            if event.kind == "started" and began and time.monotonic() - began > SECONDS:
                break
            if event.kind != "started":  # the first process is there: importing torch is none of the probes' time
                began = began or time.monotonic()
            if event.kind == "failed":
                failed[chosen[event.key]] = event.error.partition("\n")[0].removeprefix("QtablateError: ")
            elif event.kind == "done":
                found[chosen[event.key]] = event.result
    samples = {one: cell.samples for one, cell in cells.items()}
    not_begun = len(jobs) - len(found) - len(failed)
    return forecast(loads, found, samples, sweep.recipe.budget_size, sweep.n_items, failed, names, not_begun)


def plan_sheet(sweep: Sweep, expected: Forecast) -> Table:
    """The plan: a row a condition."""
    to_run = Counter(cell.condition for cell in sweep.to_run())
    rows, config = [], read_config(sweep.sources.model)
    conditions = [condition for condition, _ in sweep.grid.conditions()]
    varied = {axis.short for axis in AXES[3:] if len({getattr(one, axis.name) for one in conditions}) > 1}
    others = [axis for axis in AXES[3:] if axis.name in ("mixing", "extra_init") or axis.short in varied]
    for condition in conditions:
        cell = next(cell for cell in sweep.cells if cell.condition == condition)
        found = expected.estimates.get(condition)
        rows.append(
            (
                str(condition.extra_num_query_tokens),
                str(visual_tokens(config, condition.extra_num_query_tokens)),
                str(condition.accumulate_grad_batches),
                str(condition.micro_batch_size),
                str(condition.effective_batch_size),
                *(told(axis.name, getattr(condition, axis.name)) for axis in others),
                f"{cell.learning_rate:.3g}",
                _steps(cell, found),
                str(to_run[condition]),
                *_figures(found),
            )
        )
    columns = (
        "extra tokens",
        "visual",
        "accum",
        "micro-batch",
        "batch",
        *(axis.short for axis in others),
        "peak rate",
        "steps",
        "to run",
        "trainable",
        "MB",
        "a step",
        "a cell",
    )
    optional = tuple(name for name in ("mixing", "extra init", "peak rate", "visual", "batch", "MB") if name not in varied)
    return Table(f"Plan of {sweep.store.root}", columns, tuple(rows), _plan_note(sweep, expected), optional=optional)


def _plan_note(sweep: Sweep, expected: Forecast) -> str:
    to_run = sweep.to_run()
    seconds = [found.cell_seconds for cell in to_run if (found := expected.estimates.get(cell.condition))]
    note = (
        f"seconds of a step and of a cell; memory at its peak; {len(sweep.cells)} cells, {len(to_run)} to run, "
        f"{sweep.workers} at once, each"
        + (f" by {sweep.ranks} processes" if sweep.ranks > 1 else "")
        + f" on {sweep.recipe.held} and {sweep.n_items} items"
    )
    if seconds:
        unknown = len(to_run) - len(seconds)
        without = [f"the {unknown} whose probes failed"] * bool(unknown)
        without += ["the visual features that are made before"] * bool(sweep.chunks_missing())
        note += f"; about {clock(makespan(seconds, sweep.workers))} in all"
        note += f", without {' and '.join(without)}" if without else ""
    marked = any(not one.measured for one in expected.estimates.values())
    return f"{note}. {expected.method()}." if marked else f"{note}."


def _steps(cell: Cell, found: Estimate | None) -> str:
    """As planned; where supervised tokens are held, about as many as the samples that were looked at make it."""
    sizes = cell.condition.micro_batch_size, cell.condition.accumulate_grad_batches
    if cell.samples:
        return str(optimizer_steps(cell.samples, *sizes))
    return f"about {optimizer_steps(found.samples, *sizes)}" if found else ""


def _figures(found: Estimate | None) -> tuple[str, ...]:
    """Parameters, memory and times of a condition; ~ before what was not measured."""
    if found is None:
        return ("",) * 4
    mark = "" if found.measured else "~"
    return (
        "" if found.trainable_params is None else f"{found.trainable_params:,}",
        f"{mark}{found.peak_memory_mb:.0f}",
        f"{mark}{found.step_seconds:.3g}",
        f"{mark}{found.cell_seconds:.0f}",
    )


def defaults_in_words(sweep: Sweep, expected: Forecast) -> list[str]:
    """What decides results beside the axes, and why it is so."""
    recipe, grid = sweep.recipe, sweep.grid
    config = read_config(sweep.sources.model)
    fresh = config.get("fresh_parts") or []
    lora = f", a LoRA of rank {recipe.lora_rank}" if recipe.lora_rank else ""
    lines = [
        "Frozen: vision encoder"
        + ("" if recipe.train_language_model else ", language model (--train-lm trains it, --lora an adapter)")
        + (f", {expected.frozen_params:,} parameters" if expected.frozen_params is not None else "")
        + ". Trained, in fp32: Q-Former, query tokens, projection"
        + (", language model" if recipe.train_language_model else lora)
        + ".",
        f"Started anew from each cell's seed: {', '.join(fresh)}; an alignment-stage run, since queries that are added "
        "to a converged base are hardly taken up in a short run."
        if fresh
        else "All parts start from the model's files.",
        f"AdamW, peak rate {recipe.learning_rate:g}, warm-up over {100 * recipe.warm_up:g} % of the optimizer steps, cosine "
        f"to {recipe.min_lr_ratio:g} of it, weight decay {recipe.weight_decay:g} on matrices, "
        + (f"clipping at {recipe.max_grad_norm:g}." if recipe.max_grad_norm else "no clipping."),
        f"Held: {recipe.held} a cell, {100 * recipe.image_share:g} % of the samples images"
        + (
            f"; accumulation keeps the {grid.hold}, so "
            + (
                "only the arithmetic is split."
                if grid.hold == "effective-batch"
                else "more of it means more samples."
                if recipe.budget == "steps"
                else "more of it means fewer steps."
            )
            if len(grid.accum) > 1
            else "."
        ),
    ]
    if recipe.budget != "samples" and trains_on_world_only(sweep.sources):
        lines.append(f"The world draws {recipe.samples} samples (--samples); cells that need more see them over again.")
    if recipe.budget == "tokens":
        lines.append("How many samples hold so many supervised tokens is told by the texts, for every seed.")
    if grid.lr_scaling != ("none",):
        lines.append(
            f"The rate is meant for an effective batch of {grid.reference_batch} (--lr-batch); --lr-scaling multiplies it by "
            "the ratio of the batches or its square root, or leaves it."
        )
    elif grid.hold == "micro-batch" and len(grid.accum) * len(grid.batch_size) > 1:
        varied = " and ".join(
            name for name, levels in (("accumulation", grid.accum), ("the batch size", grid.batch_size)) if len(levels) > 1
        )
        lines.append(
            "The learning rate is the same for every effective batch. A larger batch may want a higher one, so what these "
            f"cells say of {varied} holds at this rate: --lr-scaling none,sqrt,linear compares."
        )
    lines += _ranks(sweep, config)
    broken = dict.fromkeys(incorrect_levels(dataclasses.asdict(condition)) for condition, _ in grid.conditions())
    if any(broken):
        lines.append(
            "Incorrect on purpose, to measure what it does: "
            + ", ".join(filter(None, broken))
            + ". No result of these is advice."
        )
    lines += _surgery(sweep, config["extra_num_query_tokens"])
    lines += _by_other_versions(sweep)
    if recipe.precision != "fp32" or recipe.checkpointing:
        lines.append(
            f"What is frozen, and the arithmetic, is {recipe.precision}."
            + (" Activations are computed again in the backward pass." if recipe.checkpointing else "")
        )
    if "zeros" in grid.extra_init and any(grid.tokens):
        lines.append(
            "Warning: zero-initialised extra tokens are the original's choice, but they start as copies of one another "
            "and hardly part in a short run; --extra-init normal avoids that."
        )
    return lines


def _ranks(sweep: Sweep, config: Mapping[str, Any]) -> list[str]:
    """What several ranks mean for results, times and memory."""
    if sweep.ranks == 1:
        return []
    lines = [
        f"Each micro-batch is shared by {sweep.ranks} processes (--ranks) that add up their gradients once a window: results "
        "are those of one process but for rounding and, where the model has dropout, its masks; the gradient's noise is not "
        "measured. Times and memory are of one process with its share, without what adding up takes."
    ]
    if config.get("qformer_padded_left"):
        lines.append("Warning: this model's visual tokens depend on what else is in a batch, so they depend on --ranks too.")
    return lines


def _surgery(sweep: Sweep, held: int) -> list[str]:
    """What becomes of the extra query tokens that the model's files have, where they have any."""
    if not held:
        return []
    how = "as --extra-init says"
    each = [f"at {n}: {str(QueryResize(held, n, how)).removeprefix('extra query tokens: ')}" for n in sweep.grid.tokens]
    return [f"The model's files hold {held} extra query tokens; {'; '.join(each)}."]


def _by_other_versions(sweep: Sweep) -> list[str]:
    """What becomes of finished cells in the folder that differ from this sweep's in nothing but the packages' versions."""
    mine = {_without_versions(dataclasses.asdict(cell)) for cell in sweep.cells}
    found: Counter[str] = Counter()
    for key in set(sweep.store.keys()) - {cell.key for cell in sweep.cells}:
        record = sweep.store.read_record(key)
        if record and record.status == "ok" and _without_versions(record.cell) in mine:
            found[record.cell["fingerprints"]["software"]] += 1
    return [
        f"{number} finished cells of this grid were made with {versions}, and {sweep.read_as.software} is installed: versions "
        "can change results, so they are kept in cells/, and run again under other keys. To reuse them, install those versions."
        for versions, number in found.items()
    ]


def _without_versions(cell: Mapping[str, Any]) -> str:
    return json.dumps({**cell, "fingerprints": {**cell["fingerprints"], "software": ""}}, sort_keys=True)


def not_above_blind(sweep: Sweep) -> list[tuple[Cell, float, float]]:
    """Cells whose gain over the blind control is not above two standard errors: (cell, gain, standard error)."""
    out = []
    for cell in sweep.cells:
        record = sweep.store.read_record(cell.key)
        gain = record.figures["visual_gain"] if record and record.figures else {"value": None, "stderr": None}
        value, stderr = gain["value"] or 0.0, gain["stderr"] or 0.0
        if value <= 2 * stderr:
            out.append((cell, value, stderr))
    return out


def save_within(save_every: float, cell_timeout: float | None) -> float:
    """How often a cell in training is saved, in the unit of both: where it is saved at all, at least twice before it is ended,
    so that each further run gets on."""
    return min(save_every, cell_timeout / 3) if cell_timeout else save_every


def execute(sweep: Sweep, cell_timeout: float | None = None) -> Generator[Event, None, None]:
    """Run every cell that is not finished. A job that dies without a word, or takes more than `cell_timeout` seconds, leaves a
    failed record too."""
    cells = {cell.key: cell for cell in sweep.to_run()}
    for key in cells:
        sweep.store.discard_damaged(key)
    jobs = [
        (key, CellJob(cell, sweep.sources, sweep.store.root, sweep.training, sweep.benchmark, sweep.save_every))
        for key, cell in cells.items()
    ]
    for event in run_jobs("qtablate.cell.run:run_cell", jobs, sweep.workers, sweep.ranks, timeout=cell_timeout):
        if event.kind == "failed" and sweep.store.finished(event.key):
            event = Event(event.key, "done")  # it was ended, or died, after its last word to the disk
        elif event.kind == "failed":
            record = sweep.store.read_record(event.key)
            if record is None or record.status != "failed":
                sweep.store.write_record(of_cell(cells[event.key], "failed", error=event.error, traceback=event.traceback))
        yield event


def write_sweep_file(sweep: Sweep) -> None:
    """sweep.json, then every table that the cells on disk allow. Raises StoreError where that would replace the only trace of
    other finished cells, or cannot be written."""
    validate_overwrite(sweep.store, {cell.key for cell in sweep.cells})
    problems, items = _left_out(sweep)
    sweep.store.write_sweep(
        {
            "schema": RECORD_SCHEMA,
            "grid": {**dataclasses.asdict(sweep.grid), "lr_batch": sweep.grid.reference_batch},
            "recipe": dataclasses.asdict(sweep.recipe),
            "sources": dataclasses.asdict(sweep.sources),
            "fingerprints": dataclasses.asdict(sweep.cells[0].fingerprints),
            "num_query_tokens": sweep.num_query_tokens,
            "base": base_scores(sweep.sources.model, sweep.cells[0].fingerprints.benchmark),
            "items": items,
            "cells": [{"key": cell.key, "seed": cell.seed, **dataclasses.asdict(cell.condition)} for cell in sweep.cells],
            "problems": problems,
            "versions": versions(),
            "host": {
                "machine": platform.machine(),
                "cores": os.cpu_count(),
                "python": platform.python_version(),
                "ranks": sweep.ranks,
            },
        }
    )
    write_tables(sweep.store)


def _left_out(sweep: Sweep) -> tuple[list[dict[str, Any]], int]:
    """Everything that is left out of the score, and how many items remain.

    Which clips cannot be decoded is known from the cached features. Where that cache was deleted after the cells were
    run, an earlier sweep.json of the same data and model still says it.
    """
    if sweep.chunks_missing():
        with suppress(StoreError):
            before = sweep.store.read_sweep()
            if before["fingerprints"] == dataclasses.asdict(sweep.cells[0].fingerprints):
                return before["problems"], before["items"]
    lost = _undecodable_items(sweep)
    untrained = [] if sweep.training.missing() else sweep.training.problems()
    problems = {"item": [*sweep.item_problems, *lost], "sample": [*sweep.sample_problems, *untrained]}
    named = [{"of": what, **dataclasses.asdict(problem)} for what, some in problems.items() for problem in some]
    return named, sweep.n_items - len(lost)


def _first(problems: list[Problem] | object) -> str:
    found = list(problems) if isinstance(problems, (list, tuple)) else []
    return f"{found[0].kind} ({found[0].subject}: {found[0].detail}), {len(found)} in all" if found else "it is empty"
