"""The plan of a sweep: which cells there are, which are still to run, and what each of them needs. Writes nothing.

This module never imports torch: processes that need it are started by the executor.
"""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtablate.axes import Condition
from qtablate.cell.jobs import CellJob, FeatureJob
from qtablate.config import DataConfig, SweepConfig
from qtablate.data.sources import is_world, open_benchmark, open_training, trains_on_world_only
from qtablate.data.temporal import PERTURBATIONS
from qtablate.datatypes import Benchmark, Clips, Problem, TrainingData
from qtablate.errors import DataError
from qtablate.grid import Cell, CellSettings, Fingerprints, cells, conditions
from qtablate.model.cache import default_cache, limit_bytes
from qtablate.model.directory import fingerprint, read_config
from qtablate.model.features import FeatureFiles
from qtablate.store import Store
from qtablate.sweep.at_once import AtOnce, decide
from qtablate.sweep.confirmation import Confirmation
from qtablate.sweep.resolve import resolve
from qtablate.sweep.selection import matching, selected
from qtablate.sweep.validate import validate_data, validate_grid, validate_invalid_share
from qtablate.track import validate_installed
from qtablate.versions import result_versions
from qtablate.video.isolated import RETRYABLE, decode_timeout


@dataclass(frozen=True)
class Inputs:
    """What cells with one number of frames per clip read: visual features, and fingerprints of their sources."""

    training: FeatureFiles
    benchmark: FeatureFiles
    source_fingerprints: Fingerprints
    """Of model and files alone, whatever of the files could be decoded."""

    def files(self) -> tuple[FeatureFiles, FeatureFiles]:
        """The feature files of training data and benchmark."""
        return self.training, self.benchmark

    def fingerprints(self) -> Fingerprints:
        """Those of the sources, and of the clips that could not be read in time, as far as features are computed.

        Another try may read these clips: cells made without them are other cells than those made with them.
        """
        source = self.source_fingerprints
        return dataclasses.replace(
            source,
            training=_without_lost_clips(source.training, self.training),
            benchmark=_without_lost_clips(source.benchmark, self.benchmark),
        )


def _without_lost_clips(source: str, files: FeatureFiles) -> str:
    lost = [] if files.missing() else [problem.subject for problem in files.problems() if problem.kind in RETRYABLE]
    return hashlib.sha256("\n".join([source, *lost]).encode()).hexdigest()[:16] if lost else source


@dataclass(frozen=True)
class Contents:
    """What benchmark and training data hold, as far as reading their files tells."""

    items_of_clip: dict[str, list[str]]
    """Ids of the items of each clip of the benchmark."""
    entries: int
    """Items that the benchmark's files hold, usable or not, drawn or not."""
    item_problems: list[Problem]
    sample_problems: list[Problem]
    """What was refused when the files were read."""
    samples_of_clip: Counter[str]
    """Usable samples of each clip of the training files; none is counted where all are generated, and so never invalid."""

    @property
    def n_items(self) -> int:
        """Items that are scored, as far as reading the files tells."""
        return sum(map(len, self.items_of_clip.values()))


@dataclass(frozen=True)
class SweepPlan:
    """Everything that is settled before a cell runs."""

    config: SweepConfig
    settings: CellSettings
    store: Store
    cells: list[Cell]
    inputs: dict[int, Inputs]
    """By frames per clip."""
    contents: Contents
    model_config: dict[str, Any]
    """The model's config.json, with its family's defaults."""
    at_once: AtOnce
    """Cells at once."""
    confirmation: Confirmation = field(default_factory=Confirmation)
    """Cells outside the grid that confirm its choice (confirm.py)."""
    not_needed: frozenset[str] = frozenset()
    """Keys of the cells that are not run because everything that they tell is decided (until_decided.py)."""

    @property
    def workers(self) -> int:
        """Cells at once."""
        return self.at_once.cells

    @property
    def processes(self) -> int:
        """Processes at once."""
        return self.workers * self.config.run.processes_per_cell

    @property
    def model_frames(self) -> int:
        """Frames per clip of the model's own."""
        return int(self.model_config["num_frames"])

    def conditions(self) -> list[Condition]:
        """The conditions of the grid, in the order of its axes."""
        return [condition for condition, _ in conditions(self.config.grid, self.model_frames)]

    def unfinished(self) -> list[Cell]:
        """The cells of the grid that are needed and not finished, in their order."""
        return [cell for cell in self.cells if cell.key not in self.not_needed and not self.store.finished(cell.key)]

    def named_only(self) -> frozenset[str]:
        """Keys of the cells of the grid that --only names: all, where it names none. Raises ConfigError."""
        return matching(self.config.run.only, self.cells, self.config.grid.batch_size_is)

    def to_run(self) -> list[Cell]:
        """The unfinished cells that this run is for, in the order in which they are run."""
        return selected(self.unfinished(), self.config.run, self.named_only(), self.conditions(), self.store)

    def confirmation_to_run(self) -> list[Cell]:
        """The cells of the confirmation that are wanted and not finished, in their order."""
        cells, wanted = self.confirmation.cells, self.confirmation.wanted
        return [cell for cell in cells if cell.key in wanted and not self.store.finished(cell.key)]

    def feature_files(self) -> Iterable[FeatureFiles]:
        """The files of visual features of all cells."""
        return (files for inputs in self.inputs.values() for files in inputs.files())

    def chunks_missing(self) -> int:
        """Chunks of visual features that are not computed yet."""
        return sum(len(files.missing()) for files in self.feature_files())

    def cell_job(self, cell: Cell) -> CellJob:
        """The job that runs a cell in another process."""
        inputs = self.inputs[cell.condition.frames]
        return CellJob(
            cell, self.config.data, self.store.root, inputs.training, inputs.benchmark, self.config.run.checkpoint_seconds
        )

    def feature_jobs(self) -> list[tuple[str, FeatureJob]]:
        """The chunks of features that are not cached yet or whose checksum differs, split among the processes."""
        jobs = []
        for frames, inputs in self.inputs.items():
            for which, files in (("training", inputs.training), ("benchmark", inputs.benchmark)):
                missing = files.missing(verify_checksums=True)
                for worker in range(self.processes):
                    chunks = tuple(missing[worker :: self.processes])
                    if chunks:
                        at = f" at {frames} frames" if len(self.inputs) > 1 else ""
                        job = FeatureJob(
                            self.config.data, files, chunks, which, self.settings.samples, self.settings.image_ratio, frames
                        )
                        jobs.append((f"{which} clips{at}, part {worker + 1}", job))
        return jobs

    def undecodable_items(self) -> list[Problem]:
        """Items whose clips could not be decoded, as far as that is known; each once."""
        lost = {
            item: Problem(item, problem.kind, problem.detail)
            for inputs in self.inputs.values()
            for problem in ([] if inputs.benchmark.missing() else inputs.benchmark.problems())
            for item in self.contents.items_of_clip.get(problem.subject, ())
        }
        return list(lost.values())

    def undecodable_training_clips(self) -> list[Problem]:
        """Clips of the training data that could not be decoded, as far as that is known; each once."""
        lost = {
            problem.subject: problem
            for inputs in self.inputs.values()
            for problem in ([] if inputs.training.missing() else inputs.training.problems())
        }
        return list(lost.values())

    def rekeyed(self) -> "SweepPlan":
        """The plan with cells that are named by the clips that could not be read in time, too (Inputs.fingerprints)."""
        return dataclasses.replace(self, cells=_cells(self.config, self.settings, self.inputs, self.model_frames))

    def check_invalid_share(self) -> None:
        """Stop where more training samples or items are invalid than --max-invalid allows. Raises DataError that names some."""
        contents, limit = self.contents, self.config.data.max_invalid
        clips = self.undecodable_training_clips()
        refused = len(contents.sample_problems)
        invalid = refused + sum(contents.samples_of_clip[problem.subject] for problem in clips)
        total = refused + contents.samples_of_clip.total()
        validate_invalid_share("training samples", invalid, total, [*contents.sample_problems, *clips], limit)
        problems, lost = contents.item_problems, self.undecodable_items()
        if contents.entries == contents.n_items + len(problems):
            validate_invalid_share("items", len(problems) + len(lost), contents.entries, [*problems, *lost], limit)
        else:  # --items-per-task has drawn some of the usable ones: each share is of the set that was searched
            validate_invalid_share("items", len(problems), contents.entries, problems, limit)
            validate_invalid_share("drawn items", len(lost), contents.n_items, lost, limit)


def make_plan(config: SweepConfig, cache: Path | None = None) -> SweepPlan:
    """Read the sources, check the grid, and lay out all cells. Nothing is written.

    Args:
        cache: folder of visual features; None: the user's (model/cache.py).

    Raises:
        QtablateError: what cannot be run, and why.
    """
    decode_timeout(), limit_bytes()  # raise where the environment's values are unusable
    validate_installed(config.run.track)
    data, model_config = config.data, read_config(config.data.model)
    settings = resolve(config, model_config)
    validate_grid(config, settings, model_config)
    own = int(model_config["num_frames"])
    frames = list(dict.fromkeys(condition.frames for condition, _ in conditions(config.grid, own)))
    software = result_versions(media=not (trains_on_world_only(data) and is_world(data.bench)))
    folder = cache or default_cache() / "features"
    opened = {number: _open(data, settings, {**model_config, "num_frames": number}) for number in frames}
    training, benchmark = opened[frames[0]]
    if not benchmark.items:
        raise DataError(f"--bench {data.bench} holds no usable question: {_first(benchmark.problems)}")
    validate_data(config, settings, model_config, training)
    model = fingerprint(data.model)
    inputs = {}
    for number, (samples, items) in opened.items():
        prints = Fingerprints(model, samples.fingerprint, items.fingerprint, software)
        altered = tuple(control for control in PERTURBATIONS if control in settings.controls)
        inputs[number] = Inputs(
            _files(folder, prints, samples, (), settings.precision),
            _files(folder, prints, items, altered, settings.precision),
            prints,
        )
    planned, store = _cells(config, settings, inputs, own), Store(config.out)
    plan = SweepPlan(
        config,
        settings,
        store,
        planned,
        inputs,
        _contents(data, training, benchmark),
        model_config,
        decide(config, settings, store, planned),
    )
    plan.check_invalid_share()
    plan.named_only()  # raises where --only names no cell
    return plan


def _open(data: DataConfig, settings: CellSettings, model_config: dict[str, Any]) -> tuple[TrainingData, Benchmark]:
    training = open_training(data, model_config, settings.samples, settings.image_ratio)
    return training, open_benchmark(data, model_config)


def _cells(config: SweepConfig, settings: CellSettings, inputs: dict[int, Inputs], own: int) -> list[Cell]:
    prints = {frames: one.fingerprints() for frames, one in inputs.items()}
    return cells(config.grid, settings, prints.__getitem__, own)


def _contents(data: DataConfig, training: TrainingData, benchmark: Benchmark) -> Contents:
    items_of_clip: dict[str, list[str]] = {}
    for item in benchmark.items:
        items_of_clip.setdefault(item.clip, []).append(item.id)
    # of the procedural world, which has no bad sample, none is generated just to be counted
    clips = () if trains_on_world_only(data) else (sample.clip for sample in training.samples)
    return Contents(items_of_clip, benchmark.num_entries, list(benchmark.problems), list(training.problems), Counter(clips))


def _files(folder: Path, prints: Fingerprints, clips: Clips, altered: tuple[str, ...], precision: str) -> FeatureFiles:
    names = tuple(clips.clips())
    return FeatureFiles(folder, prints.model, names, tuple(map(clips.key, names)), altered, precision, prints.software)


def _first(problems: Iterable[Problem]) -> str:
    listed = list(problems)
    return f"{listed[0].kind} ({listed[0].subject}: {listed[0].detail}), {len(listed)} in all" if listed else "it is empty"
