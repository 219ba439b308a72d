"""What a process is asked to do. Light, so that the parent never imports torch; the work itself is in run.py."""

from dataclasses import dataclass
from pathlib import Path

from qtablate.data.sources import Sources
from qtablate.grid import Cell
from qtablate.model.features import FeatureFiles


@dataclass(frozen=True, slots=True)
class CellJob:
    """Run one cell: `qtablate.cell.run:run_cell`."""

    cell: Cell
    sources: Sources
    store: Path
    training: FeatureFiles
    benchmark: FeatureFiles
    save_every: float | None = None
    """Seconds between two checkpoints of its training; None: it keeps none."""


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """Compute some chunks of features: `qtablate.cell.run:compute_features`."""

    sources: Sources
    files: FeatureFiles
    chunks: tuple[int, ...]
    which: str
    """`training` or `benchmark`."""
    samples: int
    image_share: float


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """Time a few micro-batches of a cell: `qtablate.cell.run:probe`."""

    cell: Cell
    sources: Sources
    ranks: int = 1
    """That share each micro-batch; one of them is timed."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a probe measured."""

    micro_seconds: float
    """Of one micro-batch, forward and backward."""
    item_seconds: float
    """Of one item of the benchmark, under all controls together."""
    peak_memory_mb: float
    trainable_params: int
    frozen_params: int
    tokens_per_sample: float
    """Supervised ones, of the samples that were trained on."""
