"""What runs within a Slurm job: one of our jobs, saved and queued again before the time limit."""

import os
import pickle
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path
from typing import Any

from qtablate.execute.remote import Outcome, RemoteJob, run_remote
from qtablate.files import write_bytes
from qtablate.interrupts import SAVE
from qtablate.store import Store

_SAVE_SECONDS = 75.0  # that a job waits for its cell to be saved; submitit has Slurm warn it 90 seconds before the end


@dataclass(frozen=True, slots=True)
class SlurmTask:
    """What Slurm runs: a job out of the file that holds all of a submission, which share much."""

    file: Path
    key: str

    def __call__(self) -> Outcome:
        """Run the job."""
        return run_remote(read_jobs(self.file)[self.key], _own_job())

    def checkpoint(self) -> Any:
        """Save the training of the running cell, at its next optimizer step, and have the job queued again."""
        from submitit.helpers import DelayedSubmission

        remote = read_jobs(self.file)[self.key]
        if remote.store is not None:
            kept = Store(remote.store).cell_file(remote.key, "checkpoint.pt")
            before, until = _changed(kept), time.monotonic() + _SAVE_SECONDS
            children = [child.pid for child in active_children() if child.pid]
            for child in children:
                with suppress(ProcessLookupError):
                    os.kill(child, SAVE)
            while children and _changed(kept) == before and time.monotonic() < until and _trains(remote):
                time.sleep(0.2)
        return DelayedSubmission(self)


def scheduled_as(job: str) -> str:
    """How a job is named in claims."""
    return f"Slurm job {job}"


def write_jobs(file: Path, jobs: dict[str, RemoteJob]) -> None:
    """Write the jobs of a submission, which share much, into one file. Raises OSError."""
    write_bytes(file, pickle.dumps(jobs))


def read_jobs(file: Path) -> dict[str, RemoteJob]:
    """Read what `write_jobs` wrote: a pickle of the user's own sweep, in the user's own results folder."""
    jobs: dict[str, RemoteJob] = pickle.loads(file.read_bytes())
    return jobs


def _own_job() -> str:
    from submitit import JobEnvironment

    return scheduled_as(JobEnvironment().job_id)


def _trains(remote: RemoteJob) -> bool:
    """Whether a cell is in training, as far as its claim says; afterwards there is nothing to save."""
    holder = Store(remote.store).claims.holder(remote.key) if remote.store else None
    return bool(holder and holder.about.get("progress", {}).get("phase", "train") == "train")


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
