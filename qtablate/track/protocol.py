"""What a tracker is told of a cell, and what it offers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

Value = int | float | str | bool

TRAIN, BY_SAMPLES, TASK = "train/", "train_by_samples/", "task/"
"""What the names of figures begin with: of an optimizer step, of one at its number of samples, of a task."""


@dataclass(frozen=True, slots=True)
class CellRun:
    """A cell that is finished or has failed, as a run of a tracker. Figures have the names of the columns of cells.csv and
    train.csv."""

    id: str
    """Of the results folder and the cell: the same each time that this cell is written."""
    key: str
    """Of the cell."""
    name: str
    """`tokens 32, accum 4, seed 1`."""
    group: str
    """The condition: `tokens 32, accum 4`."""
    sweep: str
    """Name of the results folder."""
    seed: int
    levels: Mapping[str, Value]
    """Its levels on the axes that vary in the sweep, by column."""
    config: Mapping[str, Value]
    """Everything that decides its result: all levels, the settings, model and data."""
    figures: Mapping[str, float]
    """What it measured; empty where it failed."""
    tasks: Mapping[str, float]
    """Accuracy on each task."""
    steps: tuple[Mapping[str, float], ...]
    """The rows of train.csv without what is missing there."""
    ended: float
    """When its record was written, in seconds since 1970."""
    digest: str
    """Of all this: another one where the cell has run again."""
    error: str = ""
    """Of a cell that failed."""

    @property
    def failed(self) -> bool:
        """Whether it failed."""
        return bool(self.error)

    @property
    def began(self) -> float:
        """When its training began, in seconds since 1970, as far as its figures tell."""
        measured = sum(self.figures.get(f"{part}_seconds", 0.0) for part in ("eval", "control", "diagnose"))
        return self.ended - measured - sum(row.get("seconds", 0.0) for row in self.steps)

    def points(self) -> Iterator[tuple[str, int, float, float]]:
        """Return (name, x, value, time) of everything that was measured by step; losses by samples seen, too."""
        time = self.began
        for row in self.steps:
            time += row.get("seconds", 0.0)
            for name, value in row.items():
                if name != "step":
                    yield TRAIN + name, int(row["step"]), value, time
            if "loss" in row and "samples_seen" in row:
                yield BY_SAMPLES + "loss", int(row["samples_seen"]), row["loss"], time

    def results(self) -> dict[str, float]:
        """Return the figures of the finished cell, and the accuracy on each task, by name."""
        return {**self.figures, **{TASK + task: accuracy for task, accuracy in self.tasks.items()}}


class Tracker(Protocol):
    """Keeps runs, each known by its id. All methods are called in one thread, which is not the sweep's own.

    Whatever it raises ends the tracker for this sweep, not the sweep.
    """

    @property
    def url(self) -> str:
        """Where the runs are seen; empty where they are files in the results folder."""
        ...

    def holds(self, run: CellRun) -> bool:
        """Whether a run that was written is still there, as far as that can be told without the network."""
        ...

    def log_cell(self, run: CellRun) -> None:
        """Write a run, in place of an earlier one with the same id."""
        ...

    def close(self) -> None:
        """Write what is not written yet, and let go of processes and connections."""
        ...
