"""Jobs of the processes that a sweep starts. This module is light, so that the parent never imports torch."""

from dataclasses import dataclass
from pathlib import Path

from qtablate.claims.claim import Held
from qtablate.config import DataConfig
from qtablate.grid import Cell
from qtablate.model.features import FeatureFiles


@dataclass(frozen=True, slots=True)
class InputsSpec:
    """What decides a cell's inputs (inputs.py): cells with equal specs read the same."""

    data: DataConfig
    frames: int
    """Per clip."""
    precision: str
    samples: int
    image_ratio: float
    controls: tuple[str, ...]
    training: FeatureFiles
    benchmark: FeatureFiles


@dataclass(frozen=True, slots=True)
class CellJob:
    """Run one cell: `qtablate.cell.run:run_cell`."""

    cell: Cell
    data: DataConfig
    store: Path
    training: FeatureFiles
    benchmark: FeatureFiles
    checkpoint_seconds: float | None = None
    """Between two checkpoints of its training; None: only when training has ended."""
    claim: Held | None = None
    """The claim that it runs under; None where nobody else works in its folder."""
    micro_batch_parts: int = 1
    """Parts that each of its micro-batches is computed in; more than one after it has run out of memory."""

    @property
    def inputs(self) -> InputsSpec:
        """What decides the inputs of the cell."""
        settings, frames = self.cell.settings, self.cell.condition.frames
        return InputsSpec(
            self.data,
            frames,
            settings.precision,
            settings.samples,
            settings.image_ratio,
            settings.controls,
            self.training,
            self.benchmark,
        )


@dataclass(frozen=True, slots=True)
class FeatureJob:
    """Compute some chunks of features: `qtablate.cell.features:compute_features`."""

    data: DataConfig
    files: FeatureFiles
    chunks: tuple[int, ...]
    which: str
    """`training` or `benchmark`."""
    samples: int
    image_ratio: float
    frames: int
    """Per clip."""


@dataclass(frozen=True, slots=True)
class ProbeJob:
    """Time a few micro-batches of a cell: `qtablate.cell.probe:probe`."""

    cell: Cell
    data: DataConfig
    processes: int = 1
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
    """Supervised tokens, mean over the samples that were trained on."""
