"""What a benchmark and a training set are made of. A new benchmark is one file that yields these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]
"""A clip as (frames, height, width, 3) RGB bytes; an image is a clip of one frame."""

VIDEO, IMAGE = "video", "image"


@dataclass(frozen=True, slots=True)
class Item:
    """One multiple-choice question."""

    id: str
    """Unique in its benchmark and the same in every run: answers are paired by it."""
    task: str
    clip: str
    """Which frames are shown: the name of a file, with the bounds where there are any."""
    question: str
    options: tuple[str, ...]
    answer: int
    """Index of the gold option."""
    medium: str = VIDEO
    media: str = ""
    """The file behind the clip, whatever the bounds: the cluster of the standard errors. Empty: the clip itself."""
    instruction: str = ""
    """What is said before the question, the same for all of a benchmark; a Q-Former that reads text reads it."""
    seconds: tuple[float, ...] = field(default=(), repr=False)  # fingerprints hold the text of items
    """When each frame is shown, for models that are told; empty: nothing is said of it."""

    @property
    def cluster(self) -> str:
        return self.media or self.clip


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip or image with its conversation."""

    id: str
    medium: str
    clip: str
    pairs: tuple[tuple[str, str], ...]
    """Questions and answers in the order in which they are told; an empty question is none, as captions have it."""
    instruction: str = ""
    """The task, said once before all questions; a Q-Former that reads text reads it."""
    source: str = ""
    """Which of several sources it comes from."""
    shuffle_pairs: bool = False
    """Whether its pairs come in another order at each visit, as the original has it (train/sample_order.py)."""
    seconds: tuple[float, ...] = field(default=(), repr=False)
    """When each frame is shown, for models that are told; empty: nothing is said of it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was left out, by name."""

    subject: str
    """The item, sample or file."""
    kind: str
    """One short word or two to count by, such as `missing video`."""
    detail: str


Asked = TypeVar("Asked", Item, Sample)


def with_seconds(asked: Sequence[Asked], seconds: Mapping[str, tuple[float, ...]]) -> list[Asked]:
    """With the seconds of each one's clip, where there are any."""
    return [replace(one, seconds=seconds[one.clip]) if one.clip in seconds else one for one in asked]


class Clips(Protocol):
    """Whatever can show clips."""

    @property
    def fingerprint(self) -> str:
        """Changes whenever the pixels or the texts could have."""
        ...

    def clips(self) -> Sequence[str]:
        """The names of all clips, in a fixed order."""
        ...

    def key(self, clip: str) -> str:
        """Of one clip: changes whenever its pixels could have, and is the same in any set that holds it."""
        ...

    def frames(self, clip: str) -> Frames:
        """Decode one clip at the model's size. Raises BadMedia when it cannot be read."""
        ...

    def seconds(self, clip: str) -> tuple[float, ...]:
        """When each of these frames is shown, from the clip's beginning; of an image, none. Raises BadMedia."""
        ...


class Benchmark(Clips, Protocol):
    @property
    def items(self) -> Sequence[Item]: ...

    @property
    def problems(self) -> Sequence[Problem]:
        """Items that were refused when the files were read."""
        ...


class TrainingData(Clips, Protocol):
    @property
    def samples(self) -> Sequence[Sample]: ...

    @property
    def problems(self) -> Sequence[Problem]: ...

    @property
    def weights(self) -> Mapping[str, float]:
        """How often each source is drawn from; none for a source that has no weight."""
        ...

    def media(self) -> Mapping[str, int]:
        """How many samples there are of each medium; cheap, where telling the samples themselves may not be."""
        ...
