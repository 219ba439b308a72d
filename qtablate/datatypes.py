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
    """Which frames are shown: the name of a file, with its time span where there is one."""
    question: str
    options: tuple[str, ...]
    answer: int
    """Index of the gold option."""
    medium: str = VIDEO
    media: str = ""
    """The file behind the clip, whatever the time span: the cluster of the standard errors. Empty: the clip itself."""
    instruction: str = ""
    """Stands before the question, the same for all items of a benchmark; a Q-Former that reads text reads it."""
    seconds: tuple[float, ...] = field(default=(), repr=False)  # fingerprints hold the text of items
    """Timestamp of each frame in seconds, for models whose prompt states it; empty: the prompt states none."""

    @property
    def cluster(self) -> str:
        """The unit of the standard errors: items of one file are not independent."""
        return self.media or self.clip


@dataclass(frozen=True, slots=True)
class Sample:
    """One clip or image with its conversation."""

    id: str
    medium: str
    clip: str
    pairs: tuple[tuple[str, str], ...]
    """(question, answer) in the order of the conversation; a caption's question is empty."""
    instruction: str = ""
    """The task, stated once before all questions; a Q-Former that reads text reads it."""
    source: str = ""
    """Which of several sources it comes from."""
    shuffle_pairs: bool = False
    """Whether its pairs are shuffled anew each time it is drawn, as in VideoChat2 (train/sample_order.py)."""
    seconds: tuple[float, ...] = field(default=(), repr=False)
    """Timestamp of each frame in seconds, for models whose prompt states it; empty: the prompt states none."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was left out, by name."""

    subject: str
    """The item, sample or file."""
    kind: str
    """One short word or two to count by, such as `missing video`."""
    detail: str


ItemOrSample = TypeVar("ItemOrSample", Item, Sample)


def with_seconds(entries: Sequence[ItemOrSample], seconds: Mapping[str, tuple[float, ...]]) -> list[ItemOrSample]:
    """Return the entries with the timestamps of their clips' frames, where there are any."""
    return [replace(entry, seconds=seconds[entry.clip]) if entry.clip in seconds else entry for entry in entries]


class Clips(Protocol):
    """A set of clips that can be decoded."""

    @property
    def fingerprint(self) -> str:
        """A hash that changes whenever the pixels or the texts could have changed."""
        ...

    def clips(self) -> Sequence[str]:
        """Return the names of all clips, in a fixed order."""
        ...

    def key(self, clip: str) -> str:
        """Return what a clip's cached features are named by: it changes whenever the pixels could have, and is the same in any
        set that holds the clip."""
        ...

    def frames(self, clip: str) -> Frames:
        """Decode one clip at the model's size. Raises BadMedia when it cannot be read."""
        ...

    def seconds(self, clip: str) -> tuple[float, ...]:
        """Return each decoded frame's seconds from the clip's beginning; none for an image. Raises BadMedia."""
        ...


class Benchmark(Clips, Protocol):
    """Multiple-choice questions and their clips."""

    @property
    def items(self) -> Sequence[Item]:
        """The usable items, those of a task together."""
        ...

    @property
    def num_entries(self) -> int:
        """Items that its files hold, usable or not, drawn or not."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """Items that were refused when the files were read."""
        ...


class TrainingData(Clips, Protocol):
    """Conversations and their clips."""

    @property
    def samples(self) -> Sequence[Sample]:
        """The usable samples."""
        ...

    @property
    def problems(self) -> Sequence[Problem]:
        """Samples that were refused when the files were read."""
        ...

    @property
    def weights(self) -> Mapping[str, float]:
        """How often each source is drawn from; a source without a weight is left out."""
        ...

    def media(self) -> Mapping[str, int]:
        """Count the samples of each medium; cheap, where generating the samples themselves may not be."""
        ...
