"""What jobs report, and the events that executors yield. Light: the command line imports it too."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: str
    """`features`, `train`, `evaluate`, `tokens` or `probe`."""
    done: int
    """Units of the phase (steps, items, clips ...) that are finished."""
    total: int
    loss: float | None = None
    """Training loss of the last window."""


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
    """`started`, `progress`, `notice`, `silent` (a running job has reported nothing for long), `done` or `failed`."""
    progress: Progress | None = None
    result: Any = None
    """Return value of a `done` job."""
    error: str = ""
    traceback: str = ""
    text: str = ""
    """Of a `notice` and of a `silent` job: the line for the user."""
