"""From a grid's levels to conditions and cells. A cell's key is a hash of all that decides its result. Where a cell runs
decides nothing: neither the device nor the number of processes that share its micro-batches is part of the key.

This module knows no files and no torch.
"""

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from qtablate.axes import (
    ADAM_BETA2,
    AXES,
    BATCH_SIZE,
    HEADLINE,
    Condition,
    canonical_levels,
    depends_on_reference_batch,
    levels_of,
    varying_axes,
)
from qtablate.config import BUDGET_UNITS, BudgetUnit
from qtablate.grid_config import GridConfig

RECORD_SCHEMA = 6
"""Raise it when the meaning of a recorded figure changes: older cells are then run again."""
SCALES: dict[str, Callable[[float], float]] = {"none": lambda ratio: 1.0, "sqrt": math.sqrt, "linear": float}
"""What the learning rate is multiplied by, given the effective over the reference batch size."""


@dataclass(frozen=True, slots=True)
class CellSettings:
    """What all cells of a sweep share in training and evaluation: the configuration with every default filled in."""

    samples: int
    """Clips and images that each cell trains on, where the budget is samples; how many the procedural world draws, always."""
    image_ratio: float
    """Share of images among the samples."""
    learning_rate: float
    """At its peak, for the reference batch size."""
    warmup_ratio: float
    """Share of the optimizer steps in which the learning rate rises."""
    min_lr_ratio: float
    """Where the cosine schedule ends, as a share of the peak."""
    weight_decay: float
    adam_beta1: float
    max_grad_norm: float | None
    train_language_model: bool
    max_text_tokens: int
    """Most tokens of text in a training sequence, beside the visual ones."""
    controls: tuple[str, ...] = ("blind",)
    """Controls that every item is scored under too (evaluate/controls.py)."""
    scorers: tuple[str, ...] = ("likelihood",)
    """How answers are read (prompts/mvbench.py); the first decides the score, all are compared."""
    lora_rank: int = 0
    """Rank of a LoRA of the language model; 0: none is added."""
    precision: str = "fp32"
    """Of frozen parts and of the arithmetic; trained parameters are always fp32."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of kept."""
    diagnose: bool = False
    """Whether to run token ablations and attention maps (evaluate/token_ablation.py, attention.py)."""
    budget: BudgetUnit = "samples"
    """What every cell has the same amount of."""
    budget_size: int = 0
    """Optimizer steps or supervised tokens, where these are the budget."""

    @property
    def budget_in_words(self) -> str:
        """`4800 samples`, `300 optimizer steps`."""
        return f"{self.samples if self.budget == 'samples' else self.budget_size} {BUDGET_UNITS[self.budget]}"


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Hashes of everything outside the configuration that a result depends on."""

    model: str
    training: str
    benchmark: str
    software: str = ""
    """Versions of the packages that can change a result (versions.py)."""


@dataclass(frozen=True)  # without slots, so that its key is kept
class Cell:
    """One training run and its evaluation."""

    condition: Condition
    seed: int
    media_block: int
    """Samples of one medium in a row where a micro-batch holds one medium: the batch size that was requested, so that splitting
    it into micro-batches changes nothing. 1 where media are mixed."""
    settings: CellSettings
    fingerprints: Fingerprints
    reference_batch: int | None = None
    """Effective batch size that the learning rate and beta2 are meant for; None where neither is scaled."""

    @property
    def _batch_ratio(self) -> float:
        return self.condition.effective_batch_size / self.reference_batch if self.reference_batch else 1.0

    @property
    def learning_rate(self) -> float:
        """At its peak, scaled with the effective batch size as the condition says."""
        return self.settings.learning_rate * SCALES[self.condition.lr_scaling](self._batch_ratio)

    @property
    def betas(self) -> tuple[float, float]:
        """AdamW's decays. `scaled` is the default beta2 to the power of effective over reference batch size: its average then
        spans as many samples at every batch size (arXiv 2507.07101)."""
        beta2 = self.condition.adam_beta2
        return self.settings.adam_beta1, ADAM_BETA2**self._batch_ratio if beta2 == "scaled" else beta2

    @cached_property
    def key(self) -> str:
        """16 hex digits of all that decides the cell's result."""
        return hashlib.sha256(json_text([RECORD_SCHEMA, self]).encode()).hexdigest()[:16]

    @property
    def samples(self) -> int | None:
        """Samples that the cell trains on; None where the budget is supervised tokens, which only the texts tell."""
        if self.settings.budget == "tokens":
            return None
        if self.settings.budget == "steps":
            return self.settings.budget_size * self.condition.effective_batch_size
        return self.settings.samples


def json_text(content: Any) -> str:
    """Return dataclasses, and what holds them, as JSON with sorted keys; `dataclasses.asdict` first copies all of it."""
    return json.dumps(content, sort_keys=True, default=_fields)


def _fields(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def reference_batch(grid: GridConfig) -> int:
    """Effective batch size that the learning rate is meant for: as configured, or the grid's smallest."""
    split = grid.batch_size_is == "effective-batch"
    return grid.lr_reference_batch or min(batch if split else batch * accum for batch, accum, _ in windows(grid))


def _combinations(grid: GridConfig, frames: int = 0) -> Iterator[dict[str, int | float | str]]:
    """A level per axis, by the axis' field: the listed conditions, or the product of all levels in the order of the axes."""
    models_own = {"frames": frames}
    crossed = {axis.field: grid.levels(axis) or (models_own[axis.field],) for axis in AXES}
    if grid.conditions:
        for listed in grid.conditions:
            yield {name: listed[name] if name in listed else levels[0] for name, levels in crossed.items()}
    else:
        for levels in itertools.product(*crossed.values()):
            yield dict(zip(crossed, levels, strict=True))


def windows(grid: GridConfig) -> list[tuple[int, int, str]]:
    """(batch size as configured, accumulation, mixing) of every condition, each combination once."""
    sizes = ((int(one["batch_size"]), int(one["accum"]), str(one["mixing"])) for one in _combinations(grid))
    return list(dict.fromkeys(sizes))


def conditions(grid: GridConfig, frames: int) -> list[tuple[Condition, int]]:
    """Every condition with its media block, in the order of the axes; no condition twice.

    Where the levels of an axis are one and the same run there is one condition, not one for each level.

    Args:
        frames: frames per clip of the model's own, where the grid names none.
    """
    points: dict[Condition, int] = {}
    known = {axis.column: grid.all_levels(axis) for axis in AXES if axis.scaled_levels}
    reference = reference_batch(grid)
    for levels in _combinations(grid, frames):
        batch = int(levels[BATCH_SIZE.field])
        micro_batch = batch // int(levels["accum"]) if grid.batch_size_is == "effective-batch" else batch
        requested = {axis.column: levels[axis.field] for axis in AXES} | {BATCH_SIZE.column: micro_batch}
        points.setdefault(Condition(**canonical_levels(requested, reference, known)), batch)
    return list(points.items())


def cells(grid: GridConfig, settings: CellSettings, prints: Callable[[int], Fingerprints], frames: int) -> list[Cell]:
    """All cells, seed by seed, so that an unfinished sweep holds whole comparisons.

    Args:
        prints: the fingerprints at a number of frames per clip.
        frames: frames per clip of the model's own.
    """
    reference = reference_batch(grid)
    of_conditions = [
        Cell(
            condition,
            grid.seeds[0],
            block if condition.mixing != "mixed" else 1,
            settings,
            prints(condition.frames),
            reference if depends_on_reference_batch(dataclasses.asdict(condition)) else None,
        )
        for condition, block in conditions(grid, frames)
    ]
    return [dataclasses.replace(cell, seed=seed) for seed in grid.seeds for cell in of_conditions]


def cell_names(cells: Sequence[Cell]) -> dict[str, str]:
    """A short name for each cell by its key: that of its condition, and the seed."""
    names = condition_names([cell.condition for cell in cells])
    return {cell.key: f"{names[cell.condition]}, seed {cell.seed}" for cell in cells}


def condition_names(conditions: Sequence[Condition]) -> dict[Condition, str]:
    """A short name for each condition: tokens, accumulation, and whatever else varies among them."""
    varying = [axis for axis in varying_axes(levels_of(conditions)) if axis not in HEADLINE]
    return {
        c: ", ".join(
            [
                f"tokens {c.extra_num_query_tokens}",
                f"accum {c.accumulate_grad_batches}",
                *(f"{axis.label} {axis.show(getattr(c, axis.column))}" for axis in varying),
            ]
        )
        for c in conditions
    }
