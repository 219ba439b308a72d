"""Run jobs on a Slurm cluster, through submitit: each is a task of an array.

Jobs outlive the sweep that has submitted them: which they are is in slurm/jobs.json of the results folder, and the same sweep,
run again, comes back to what is queued or running. What becomes of them is read from the results folder (claims, records, the
outcome that each job leaves) and, where that says nothing, from Slurm itself.
"""

import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qtablate.claims.holder import Holder
from qtablate.errors import ConfigError
from qtablate.execute.events import Event
from qtablate.execute.follow import Follower
from qtablate.execute.remote import Outcome, RemoteJob
from qtablate.execute.slurm_jobs import JobFile, Submitted
from qtablate.execute.slurm_queue import Queued, SlurmError, ended_as, largest_array, minutes, queue
from qtablate.execute.slurm_task import SlurmTask, scheduled_as, write_jobs
from qtablate.records import of_cell
from qtablate.store import Store

_LOOK_SECONDS = 3.0  # between two looks at the results folder and the queue
_GRACE = 15.0  # seconds in which the outcome of a job that has left the queue may still arrive over a network file system
_TIMEOUTS = 20  # of a job, which is queued again each time
_TRIES = 3  # of a job that was ended from outside
_ENDED_FROM_OUTSIDE = ("NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REVOKED", "FAILED")
"""States of a job without an outcome that say nothing about its cell. FAILED is one of them: a cell that fails leaves an
outcome, so that something killed the job's own process."""


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """How jobs are submitted."""

    parameters: Mapping[str, str]
    """Options of sbatch by their long name: `partition`, `time`, `gres` ..."""
    at_once: int | None = None
    """Tasks of an array that may run at once; None: as many as the cluster takes."""
    cpus: int = 1
    """Of a job, where the parameters do not say: one for each of its processes."""


def run_on_slurm(
    jobs: Sequence[RemoteJob], root: Path, options: SlurmOptions, look_seconds: float = _LOOK_SECONDS
) -> Generator[Event, None, None]:
    """Run jobs and yield their events, as local.run_jobs does. Closing the iterator leaves submitted jobs to Slurm.

    A job whose machine failed, or that was killed from outside, is submitted again, three times in all.

    Args:
        jobs: what to run.
        root: the results folder, which the nodes see under the same name.
        options: how they are submitted.
        look_seconds: between two looks at what has become of them.

    Raises:
        SlurmError, ConfigError: nothing can be submitted.
    """
    work = _Work({one.key: one for one in jobs}, root, options)
    yield from work.submit([key for key in work.open if not work.is_queued(key)])
    while work.open:
        yield from work.look()
        if work.open:
            time.sleep(look_seconds)
    work.tidy()


class _Work:
    """The jobs that are not over."""

    def __init__(self, jobs: dict[str, RemoteJob], root: Path, options: SlurmOptions) -> None:
        self.open = jobs
        self._store, self._options, self._file = Store(root), options, JobFile(root)
        self._submitted = self._file.read()
        self._states = queue()
        self._follower = Follower(self._store.claims)
        self._said: dict[str, str] = {}
        """State in the queue that was last said of each job."""
        self._gone: dict[str, float] = {}
        """When each job was first missing from the queue."""

    def is_queued(self, key: str) -> bool:
        """Whether Slurm has a job of it that is not finished."""
        return key in self._submitted and self._submitted[key].job in self._states

    def submit(self, keys: Sequence[str]) -> Iterator[Event]:
        """Submit jobs, in arrays that Slurm takes."""
        most = largest_array() if keys else 1
        for start in range(0, len(keys), most):
            chunk = keys[start : start + most]
            file = self._file.folder.absolute() / f"jobs-{uuid.uuid4().hex[:8]}.pkl"
            try:
                write_jobs(file, {key: self.open[key] for key in chunk})
            except OSError as error:
                raise self._store.unwritable(file, error) from None
            ids = _submit([SlurmTask(file, key) for key in chunk], self._file.folder, self._options)
            for key, job in zip(chunk, ids, strict=True):
                before = self._submitted.get(key)
                self._submitted[key] = Submitted(job, before.tries + 1 if before and key in self._gone else 1)
                self._gone.pop(key, None)
            self._file.update(self._submitted)
            yield from (Event(key, "queued", text=f"Slurm job {job}") for key, job in zip(chunk, ids, strict=True))

    def look(self) -> Iterator[Event]:
        """See what has become of the jobs, and yield what is new."""
        with suppress(SlurmError):  # a controller that restarts: what was known still holds
            self._states = queue()
        again, holders = [], self._store.claims.all()
        for key in list(self.open):
            submitted, holder = self._submitted[key], holders.get(key)
            if (ended := self._ended(key, submitted, holder)) is not None:
                yield self._end(ended)
            elif submitted.job in self._states:
                yield from self._running(key, holder, self._states[submitted.job])
            elif self._is_lost(key, submitted):
                if submitted.tries < _TRIES and ended_as(submitted.job).startswith(_ENDED_FROM_OUTSIDE):
                    self._forget_claim(key, submitted)
                    again.append(key)
                    yield Event(key, "notice", text=f"Slurm job {submitted.job} ended as {ended_as(submitted.job)}: again")
                else:
                    yield self._end(self._failure(key, submitted))
        yield from self.submit(again)

    def _ended(self, key: str, submitted: Submitted, holder: Holder | None) -> Event | None:
        """The last event of a job that has left its outcome, or whose cell is finished, by whichever process; else None."""
        outcome = _outcome(self._file.folder / f"{submitted.job}_0_result.pkl")
        if isinstance(outcome, Outcome) and outcome.events:
            return outcome.events[-1]
        if isinstance(outcome, str):
            return Event(
                key, "failed", error=f"Slurm job {submitted.job}: {outcome.strip().splitlines()[-1]}", traceback=outcome
            )
        is_cell = self.open[key].store is not None
        return Event(key, "done") if is_cell and holder is None and self._store.finished(key) else None

    def _running(self, key: str, holder: Holder | None, state: Queued) -> Iterator[Event]:
        self._gone.pop(key, None)
        if holder is not None:
            yield from self._follower.look(key)
        elif state.state == "PENDING" and self._said.get(key) != str(state):
            self._said[key] = str(state)
            self._follower.forget(key)
            yield Event(key, "queued", text=str(state))

    def _is_lost(self, key: str, submitted: Submitted) -> bool:
        """Whether a job has left the queue for so long that no outcome will come."""
        return time.monotonic() - self._gone.setdefault(key, time.monotonic()) >= _GRACE

    def _failure(self, key: str, submitted: Submitted) -> Event:
        """Record that a cell has failed whose job can say nothing any more."""
        how = ended_as(submitted.job) or "is no longer known to Slurm"
        error = f"Slurm job {submitted.job} ended without a word ({how}); see {self._file.log(submitted.job)}"
        remote = self.open[key]
        if remote.store is not None:
            self._forget_claim(key, submitted)
            record = self._store.read_record(key)
            if record and record.status == "failed":
                return Event(key, "failed", error=record.error, traceback=record.traceback)
            self._store.write_record(of_cell(remote.job.cell, "failed", error=error))
        return Event(key, "failed", error=error)

    def _forget_claim(self, key: str, submitted: Submitted) -> None:
        """Remove the claim of a job that Slurm has ended: nobody has to wait until it goes stale."""
        holder = self._store.claims.holder(key)
        if holder and holder.owner and holder.owner.job == scheduled_as(submitted.job):
            self._store.claims.forget(holder)

    def _end(self, event: Event) -> Event:
        del self.open[event.key]
        submitted = self._submitted.pop(event.key)
        self._file.update({}, over=[event.key])
        if event.kind == "done":
            self._file.remove_files(submitted.job)
        return event

    def tidy(self) -> None:
        """Remove what no job needs any more, also of cells that were finished meanwhile; the logs of failed ones stay."""
        for key, submitted in self._file.read().items():
            if not self._store.finished(key):
                return  # another sweep's, which runs the next cells already
            self._file.remove_files(submitted.job)
        for pattern in ("jobs*", "*_submission.sh", ".submission_file_*"):
            for path in self._file.folder.glob(pattern):
                path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.folder.rmdir()


def _outcome(path: Path) -> Outcome | str | None:
    """Return what a job has left: its outcome, the traceback of what kept it from one, or None."""
    from submitit.core.utils import pickle_load

    try:
        kind, value = pickle_load(path)
    except (OSError, EOFError):
        return None
    return str(value) if kind == "error" else value if isinstance(value, Outcome) else None


def _submit(tasks: Sequence[SlurmTask], folder: Path, options: SlurmOptions) -> list[str]:
    """Submit tasks as one array and return their ids. Raises ConfigError where submitit is missing or Slurm refuses them."""
    try:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError
    except ImportError:
        raise ConfigError("--executor slurm needs submitit: pip install 'qtablate[slurm]'") from None
    given = {name.replace("_", "-"): value for name, value in options.parameters.items()}
    try:
        limit = minutes(given.pop("time", "60"))
    except ValueError as error:
        raise ConfigError(f"--slurm time: {error}: expected minutes, or D-HH:MM:SS") from None
    executor = SlurmExecutor(folder, max_num_timeout=_TIMEOUTS)
    executor.update_parameters(
        job_name=given.pop("job-name", "qtablate"),
        time=limit,
        cpus_per_task=int(given.pop("cpus-per-task", options.cpus)),
        array_parallelism=options.at_once or len(tasks),
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, **given},
    )
    try:
        with executor.batch():
            jobs = [executor.submit(task) for task in tasks]
        return [job.job_id for job in jobs]
    except FailedJobError as error:
        raise ConfigError(f"Slurm refuses the jobs: {str(error).strip().splitlines()[-1]}; see --slurm") from None
