"""What executors say of jobs, and to those who share one. Light: imported by the command line too."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    phase: str
    """`features`, `train`, `evaluate` or `tokens`."""
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """A line from a job to the user: it is never dropped, as one of many `Progress` reports may be."""

    text: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job."""

    key: str
    kind: str
    """`started`, `progress`, `notice`, `silent` (nothing was heard from a running job for long), `done` or `failed`."""
    progress: Progress | None = None
    result: Any = None
    """What a `done` job returned."""
    error: str = ""
    traceback: str = ""
    text: str = ""
    """Of a `notice` and of a `silent` job: what to tell the user."""


@dataclass(frozen=True, slots=True)
class Member:
    """One of the processes that run a job together."""

    rank: int
    world: int
    """How many they are."""
    meeting: Path
    """A file, new with the job, through which they find one another."""
