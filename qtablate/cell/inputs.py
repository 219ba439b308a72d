"""What the cells of a sweep read alike, whatever their condition and seed: the base model, samples, items and visual features.

A sweep's fork server reads it once, and each cell is a fork of that (template.py). A cell that runs elsewhere reads it itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from qtablate.cell.jobs import InputsSpec
from qtablate.controls import FULL
from qtablate.data.sources import open_benchmark, open_training
from qtablate.data.temporal import PERTURBATIONS
from qtablate.datatypes import Item, ItemOrSample, Sample, with_seconds
from qtablate.model.directory import read_config
from qtablate.model.encode import ConversationEncoder
from qtablate.model.features import FeatureFiles
from qtablate.model.load import load
from qtablate.model.video_lm import VideoLM
from qtablate.train.device import LOAD_DTYPES


@dataclass(frozen=True, slots=True)
class CellInputs:
    """The inputs of a cell. The model is the cell's own, to be changed and trained; the rest is only read."""

    model: VideoLM
    """The base as it was loaded."""
    encoder: ConversationEncoder
    samples: list[Sample]
    """Those whose clips could be decoded, in the order of the source."""
    weights: Mapping[str, float]
    """How often each source of samples is drawn from."""
    items: list[Item]
    """Those whose clips could be decoded."""
    training_features: Mapping[str, Tensor]
    """Frozen features (N, D) by clip."""
    benchmark_features: Mapping[str, Mapping[str, Tensor]]
    """The same by control: `full`, and those that alter the frames."""


def read_inputs(spec: InputsSpec) -> CellInputs:
    """Read and verify the inputs.

    Raises:
        QtablateError: model, data or features are missing, damaged or unusable.
    """
    model, encoder = load(spec.data.model, LOAD_DTYPES[spec.precision], spec.frames)
    spec.training.verify()
    spec.benchmark.verify()
    config = {**read_config(spec.data.model), "num_frames": spec.frames}
    training = open_training(spec.data, config, spec.samples, spec.image_ratio)
    altered = [control for control in spec.controls if control in PERTURBATIONS]
    shown, asked = spec.training.read(), {FULL: spec.benchmark.read()}
    asked |= {control: spec.benchmark.read(control) for control in altered}
    return CellInputs(
        model,
        encoder,
        _usable(training.samples, shown, spec.training),
        training.weights,
        _usable(open_benchmark(spec.data, config).items, asked[FULL], spec.benchmark),
        shown,
        asked,
    )


def _usable(entries: Sequence[ItemOrSample], features: Mapping[str, Tensor], files: FeatureFiles) -> list[ItemOrSample]:
    """Return those whose clips have features, with the times of their frames."""
    return with_seconds([entry for entry in entries if entry.clip in features], files.seconds())
