"""The place of one process among those that train a cell together. Light: executors import it without torch."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Rank, world size and rendezvous of one of the processes that run a job together."""

    rank: int
    """0 .. world_size - 1; rank 0 reports for the job."""
    world_size: int
    rendezvous_file: Path
    """A file, new with the job, through which the processes find one another."""
