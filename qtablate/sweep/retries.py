"""Cells that run out of memory are tried again: the same cell, each of its micro-batches computed in twice as many parts.

The window's gradient is the same but for rounding (train/accumulate.py), so that the cell's key is, too; how many parts a cell
was computed in is one of its figures, and the report says it.
"""

from dataclasses import dataclass, replace

from qtablate.cell.jobs import CellJob
from qtablate.execute.events import Again, Event


@dataclass(frozen=True, slots=True)
class RetryInParts:
    """Decides whether a cell that failed is tried again, here or on another machine."""

    retries: int
    """At most, of each cell."""
    processes_per_cell: int = 1
    """That share each micro-batch."""

    def __call__(self, job: CellJob, failed: Event) -> Again | None:
        if not failed.out_of_memory or not self.retries:
            return None
        parts, largest = job.micro_batch_parts, -(-job.cell.condition.micro_batch_size // self.processes_per_cell)
        tried = f", with micro-batches in {parts} parts" if parts > 1 else ""
        if _trained(failed):
            return Again(None, "not in training, so that micro-batches in parts would not help")
        if parts >= largest:
            return Again(None, f"each sample was computed alone{tried}")
        if (parts - 1).bit_length() >= self.retries:
            return Again(None, f"--oom-retries {self.retries}{tried}")
        more = min(2 * parts, largest)
        return Again(
            replace(job, micro_batch_parts=more),
            f"out of memory{tried}; tried again with each micro-batch computed in {more} parts: the same gradient to rounding",
        )


def _trained(failed: Event) -> bool:
    """Whether the cell had been trained when it failed."""
    last = failed.progress
    return last is not None and (last.phase != "train" or last.done == last.total)
