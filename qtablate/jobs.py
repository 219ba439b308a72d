"""What a process is asked to do. Light, so that the parent never imports torch; the work itself is in run.py."""

from dataclasses import dataclass
from pathlib import Path

from qtablate.bench.sources import Sources
from qtablate.grid import Cell
from qtablate.model.features import FeatureFiles


@dataclass(frozen=True, slots=True)
class CellJob:
    """Run one cell: `qtablate.run:run_cell`."""

    cell: Cell
    sources: Sources
    store: Path
    training: FeatureFiles
    benchmark: FeatureFiles


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """Compute some chunks of features: `qtablate.run:compute_features`."""

    sources: Sources
    files: FeatureFiles
    chunks: tuple[int, ...]
    which: str
    """`training` or `benchmark`."""
    samples: int
    image_share: float


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """Time a few micro-batches of some cells: `qtablate.run:probe`."""

    cells: tuple[Cell, ...]
    sources: Sources
    n_items: int
