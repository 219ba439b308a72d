"""Combine several sources of training data into one set.

Weights say how often a source is drawn from within a medium (train/sample_order.py); a source without a weight has the weight
of its number of samples.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from qtablate.datatypes import Frames, Problem, Sample, TrainingData


@dataclass(frozen=True, slots=True)
class MixtureSource:
    """One source of a mixture."""

    name: str
    """Unique in its mixture; it becomes the prefix of the source's clips and samples."""
    data: TrainingData
    weight: float | None
    """None: the number of its samples."""


class Mixture:
    """Training data of several sources; clips and samples are named `SOURCE:NAME`."""

    def __init__(self, sources: Sequence[MixtureSource]) -> None:
        """Keep the sources in their order."""
        self.sources = {source.name: source for source in sources}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the sources' names, weights and fingerprints."""
        parts = [f"{name}/{source.weight}/{source.data.fingerprint}" for name, source in self.sources.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @cached_property
    def samples(self) -> Sequence[Sample]:
        """All sources' samples, source by source."""
        return [
            replace(sample, id=f"{name}:{sample.id}", clip=f"{name}:{sample.clip}", source=name)
            for name, source in self.sources.items()
            for sample in source.data.samples
        ]

    @property
    def problems(self) -> Sequence[Problem]:
        """Samples of all sources that cannot be used."""
        return [
            replace(problem, subject=f"{name}:{problem.subject}")
            for name, source in self.sources.items()
            for problem in source.data.problems
        ]

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each source that has one."""
        return {name: source.weight for name, source in self.sources.items() if source.weight is not None}

    def media(self) -> Mapping[str, int]:
        """Return the number of samples per medium."""
        return sum((Counter(source.data.media()) for source in self.sources.values()), Counter())

    def clips(self) -> Sequence[str]:
        """Return the names of all clips, source by source."""
        return [f"{name}:{clip}" for name, source in self.sources.items() for clip in source.data.clips()]

    def key(self, clip: str) -> str:
        """Identify a clip's pixels: the key in its own source."""
        data, own_name = self._find(clip)
        return data.key(own_name)

    def frames(self, clip: str) -> Frames:
        """Decode a clip (T, H, W, 3). Raises BadMedia."""
        data, own_name = self._find(clip)
        return data.frames(own_name)

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return when each frame is shown, in seconds. Raises BadMedia."""
        data, own_name = self._find(clip)
        return data.seconds(own_name)

    def _find(self, clip: str) -> tuple[TrainingData, str]:
        """Return a clip's source and its name there."""
        name, _, own_name = clip.partition(":")
        return self.sources[name].data, own_name
