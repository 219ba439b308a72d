"""What jobs report, and the events that executors yield. Light: the command line imports it too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PHASES = {
    "features": ("clip", 0.0, 1.0),
    "train": ("step", 0.0, 0.75),
    "evaluate": ("answer", 0.75, 1.0),
    "tokens": ("part of the tokens", 0.9, 1.0),
    "probe": ("part", 0.0, 1.0),
}
"""Of a job, by name: what its units are called, and where in the job it begins and ends, roughly: only bars and the time left
rest on that."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: str
    """One of PHASES."""
    done: int
    """Units of the phase (steps, items, clips ...) that are finished."""
    total: int
    loss: float | None = None
    """Training loss of the last window."""

    @property
    def share(self) -> float:
        """How much of the job is done, roughly."""
        _, start, end = PHASES[self.phase]
        return start + (end - start) * self.done / max(1, self.total)

    def __str__(self) -> str:
        return f"{PHASES[self.phase][0]} {self.done}/{self.total}"


@dataclass(frozen=True, slots=True)
class Notice:
    """A line from a job to the user. It is never dropped, while `Progress` reports that follow closely are."""

    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    key: str
    """Of the job."""
    kind: str
    """`started`, `progress`, `notice`, `silent` (a running job has reported nothing for long), `held` (another process runs
    it), `done` or `failed`."""
    progress: Progress | None = None
    """Of a `progress`; of a `failed` job what it reported last."""
    result: Any = None
    """Return value of a `done` job."""
    error: str = ""
    traceback: str = ""
    out_of_memory: bool = False
    """Whether a `failed` job failed because there was no memory left."""
    text: str = ""
    """Of a `notice`, and of a `silent` and a `held` job: the line for the user."""


@dataclass(frozen=True, slots=True)
class Again:
    """What becomes of a job that has failed."""

    job: Any
    """To run in its place, under its key; None: there is none, it has failed."""
    text: str
    """What the user is told: that it is tried again, or why not."""


Retry = Callable[[Any, Event], Again | None]
"""Decides what becomes of a job by its `failed` event; None: it has failed, and there is nothing to say."""
