"""Which jobs of a results folder Slurm has: slurm/jobs.json, and what Slurm says of them."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qtablate.execute.slurm_queue import SlurmError, queue
from qtablate.store import Store


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was submitted."""

    job: str
    """Slurm's id of it: `17_3`."""
    tries: int = 1
    """How often it was submitted."""


class JobFile:
    """slurm/jobs.json: the id of every job that was submitted and has not been heard to be over."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "slurm"
        self._path = self.folder / "jobs.json"

    def read(self) -> dict[str, Submitted]:
        """By the key of the job; empty where no such file can be read: claims keep a cell from running twice."""
        try:
            return {key: Submitted(**one) for key, one in json.loads(self._path.read_text()).items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def update(self, jobs: Mapping[str, Submitted], over: Sequence[str] = ()) -> None:
        """Add jobs to the file, and leave out those of the keys that are over; another sweep's stay. Raises StoreError."""
        known = {**self.read(), **jobs}
        content = {key: {"job": one.job, "tries": one.tries} for key, one in known.items() if key not in over}
        Store(self.folder.parent).write_file(self._path, json.dumps(content, indent=1, sort_keys=True) + "\n")

    def remove_files(self, job: str) -> None:
        """Remove the pickles and logs of a job that is done."""
        for path in self.folder.glob(f"{job}_*"):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def log(self, job: str) -> Path:
        """Where the job's output is."""
        return self.folder / f"{job}_0_log.out"


def queued_jobs(root: Path) -> dict[str, str]:
    """Return the submitted jobs of a results folder that Slurm has not finished, in words, by the key of their cell; empty
    where there is no Slurm here."""
    known = JobFile(root).read()
    if not known:
        return {}
    try:
        states = queue()
    except SlurmError:
        return {}
    return {key: f"Slurm job {one.job} ({states[one.job]})" for key, one in known.items() if one.job in states}
