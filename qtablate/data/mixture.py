"""Several sources of training data as one: their samples side by side, each source with its weight.

Weights say how often a source is drawn from within a medium (train/sample_order.py); without them every sample counts the same.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from qtablate.datatypes import Frames, Problem, Sample, TrainingData


@dataclass(frozen=True, slots=True)
class Source:
    name: str
    """Unique in its mixture; clips and samples are named behind it."""
    data: TrainingData
    weight: float | None
    """None: as many as it has samples."""


class Mixture:
    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = {source.name: source for source in sources}

    @cached_property
    def fingerprint(self) -> str:
        parts = [f"{name}/{one.weight}/{one.data.fingerprint}" for name, one in self.sources.items()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    @cached_property
    def samples(self) -> Sequence[Sample]:
        return [
            replace(sample, id=f"{name}:{sample.id}", clip=f"{name}:{sample.clip}", source=name)
            for name, one in self.sources.items()
            for sample in one.data.samples
        ]

    @property
    def problems(self) -> Sequence[Problem]:
        return [
            replace(problem, subject=f"{name}:{problem.subject}")
            for name, one in self.sources.items()
            for problem in one.data.problems
        ]

    @property
    def weights(self) -> Mapping[str, float]:
        return {name: one.weight for name, one in self.sources.items() if one.weight is not None}

    def media(self) -> Mapping[str, int]:
        return sum((Counter(one.data.media()) for one in self.sources.values()), Counter())

    def clips(self) -> Sequence[str]:
        return [f"{name}:{clip}" for name, one in self.sources.items() for clip in one.data.clips()]

    def key(self, clip: str) -> str:
        name, _, own = clip.partition(":")
        return self.sources[name].data.key(own)

    def frames(self, clip: str) -> Frames:
        name, _, own = clip.partition(":")
        return self.sources[name].data.frames(own)

    def seconds(self, clip: str) -> tuple[float, ...]:
        name, _, own = clip.partition(":")
        return self.sources[name].data.seconds(own)
