"""The records that travel to disk: what a run was, did and scored."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from qtablate.axes import AXES, Level
from qtablate.config import SweepConfig
from qtablate.datatypes import Problem
from qtablate.grid import Cell, CellSettings, Fingerprints
from qtablate.statistics.clustered import ClusteredMean
from qtablate.versions import versions

MEASURED = (
    "train_seconds",
    "eval_seconds",
    "control_seconds",
    "diagnose_seconds",
    "peak_memory_mb",
    "micro_batch_parts",
    "step_seconds",
    "item_milliseconds",
    "pareto_by_time",
)
"""Figures that the machine decides, here and in cost.csv: the only columns that may differ between two runs of one cell."""


NOT_NEEDED = "not needed"
"""Status of a cell that is not run because everything that it tells is decided (--until-decided)."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Scores of one task."""

    task: str
    accuracy: ClusteredMean
    per_token: ClusteredMean
    """By mean log-likelihood per token instead of the sum."""
    controls: dict[str, ClusteredMean]
    """Accuracy under each control."""
    chance: float
    """Mean of 1 / options."""


@dataclass(frozen=True, slots=True)
class QueryDiversity:
    """How diverse the extra query tokens are at the end of training."""

    query_rank: float
    """Effective rank of the learned queries: their number when orthogonal, 1 for copies of one."""
    query_cosine: float | None
    """Mean cosine over pairs of queries; None for a single one."""
    output_rank: float
    """Effective rank of the Q-Former's outputs for one clip, mean over clips."""
    output_cosine: float | None
    """Mean cosine over pairs of these outputs."""
    moved: float
    """Mean distance of an extra query from its initial value."""
    moved_base: float
    """Mean distance of a base query from its initial value."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a finished cell measured."""

    steps: int
    samples_seen: int
    supervised_tokens: int
    skipped_windows: int
    """Windows without a supervised token: no step was taken."""
    overflows: int
    """Windows whose gradient was not finite in fp16: no step was taken."""
    peak_learning_rate: float
    """Of the schedule, scaled with the effective batch size where the condition says so."""
    truncated_samples: int
    """Conversations that were too long and lost their end."""
    dropout: bool
    """Whether training drew random masks."""
    train_loss: float | None
    """Token-weighted mean of the last tenth of the steps."""
    accuracy: ClusteredMean
    accuracy_macro: float | None
    """Mean over tasks; `accuracy` is over items."""
    accuracy_per_token: ClusteredMean
    controls: dict[str, ClusteredMean]
    """Accuracy under each control."""
    visual_gain: ClusteredMean
    """Score minus blind score, paired by item."""
    temporal_gain: ClusteredMean
    """Score minus the score on shuffled frames, paired by item; empty where that control was not run."""
    chance: float
    tasks: tuple[TaskScore, ...]
    visual_tokens: int
    trainable_params: int
    frozen_params: int
    extra_query_tokens: str
    """What became of those in the model's files, in words."""
    query_diversity: QueryDiversity | None
    """Of the extra tokens; None without --diagnose."""
    train_seconds: float
    eval_seconds: float
    """Scoring without the controls."""
    control_seconds: float
    diagnose_seconds: float
    """For --diagnose."""
    peak_memory_mb: float
    unscored: tuple[Problem, ...] = ()
    """Items that this cell's model could not score, by name."""
    micro_batch_parts: int = 1
    """Parts that its micro-batches were computed in, the most of any: 1, but where it ran out of memory (--oom-retries)."""


@dataclass(frozen=True, slots=True)
class Record:
    """record.json of a cell."""

    key: str
    status: str
    """`ok`, `failed` or `running`; only `ok` means finished."""
    cell: dict[str, Any]
    figures: dict[str, Any] | None = None
    error: str = ""
    traceback: str = field(default="", repr=False)
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of every file that a finished cell's figures rest on, by name."""
    versions: dict[str, str] = field(default_factory=dict)
    """Of the packages that made it (versions.py)."""
    host: str = ""
    """What it ran on, as far as that can change how numbers round."""


def of_cell(cell: Cell, status: str, figures: Figures | None = None, **more: Any) -> Record:
    """The record of a cell; `more`: other fields of Record."""
    return Record(
        cell.key,
        status,
        dataclasses.asdict(cell),
        dataclasses.asdict(figures) if figures else None,
        versions=versions(),
        **more,
    )


@dataclass(frozen=True, slots=True)
class PlannedCell:
    """A cell of a sweep, in sweep.json."""

    key: str
    seed: int
    condition: dict[str, Level]
    """Its level on every axis, by column."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item or a sample that is left out, by name."""

    of: Literal["item", "sample"]
    subject: str
    """The item, sample or file."""
    kind: str
    """One short word or two to count by, such as `missing video`."""
    detail: str


@dataclass(frozen=True, slots=True)
class Host:
    """Where a sweep was run."""

    machine: str
    cores: int
    python: str
    processes_per_cell: int


class SweepFile(BaseModel):
    """sweep.json: the configuration of a sweep, its resolved settings, its cells and their provenance."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, use_attribute_docstrings=True)

    schema_version: int = Field(alias="schema")
    """RECORD_SCHEMA of the version that wrote it."""
    config: SweepConfig
    """As the user gave it."""
    settings: CellSettings
    """The configuration with every default filled in."""
    reference_batch: int
    """Effective batch size that the learning rate is meant for."""
    fingerprints: Fingerprints
    """Of a cell with the model's own number of frames per clip, where there is one; else of the first."""
    num_query_tokens: int
    """Base queries of the model."""
    base_accuracy: dict[str, float]
    """By task, of the model before any ablation, where its directory says so."""
    items: int
    """Items that are scored."""
    cells: tuple[PlannedCell, ...]
    """Of the grid."""
    confirmation: tuple[PlannedCell, ...] = ()
    """Cells with seeds that took no part in the choice, outside the grid (--confirm): seed by seed, the recommended condition
    before the baseline condition."""
    not_needed: tuple[str, ...] = ()
    """Keys of the cells of the grid that are not run because everything that they tell is decided (--until-decided)."""
    problems: tuple[LeftOut, ...]
    """Everything that is left out."""
    versions: dict[str, str]
    """Of the packages."""
    host: Host | None = None

    @property
    def planned_seeds(self) -> tuple[int, ...]:
        """The seeds in their order, where they are added until all is decided; empty where every condition runs with all."""
        return self.config.grid.seeds if self.config.run.until_decided else ()

    @property
    def all_cells(self) -> tuple[PlannedCell, ...]:
        """The cells of the grid and those of its confirmation."""
        return (*self.cells, *self.confirmation)

    def validate_conditions(self) -> None:
        """Check that every cell names its level on every axis. Raises ValueError."""
        for cell in self.all_cells:
            missing = [axis.column for axis in AXES if axis.column not in cell.condition]
            if missing:
                raise ValueError(f"cell {cell.key} has no level of {', '.join(missing)}")
