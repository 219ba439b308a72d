"""A job that a scheduler runs somewhere: what it carries, and what runs it there.

Its processes are those of local.py, so that a crash takes down the job's child and not what reports it, and a cell runs under a
claim that names the scheduler's job (claimed.py).
"""

from collections.abc import Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qtablate.claims.owner import this_process
from qtablate.execute.claimed import run_claimed
from qtablate.execute.events import Event, Retry
from qtablate.execute.local import run_jobs
from qtablate.store import Store


@dataclass(frozen=True, slots=True)
class RemoteJob:
    """One job, to be run on another machine."""

    function: str
    """`module:name`, as in local.run_jobs."""
    key: str
    job: Any
    processes: int = 1
    """That run it together."""
    timeout: float | None = None
    """Seconds after which it is ended as failed."""
    store: Path | None = None
    """Folder of its cell, which is run under a claim there; None for a job that is no cell."""
    elsewhere: str = ""
    """`module:name` of what runs it on a machine that does not see that folder, and returns the cell's files by name."""
    retry: Retry | None = None
    """As in local.run_jobs."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a remote job ended: the last event of each job that it ran."""

    events: tuple[Event, ...] = field(default=())


def events_of(remote: RemoteJob, scheduled_as: str) -> Generator[Event, None, None]:
    """Run a job here and yield its events.

    Args:
        remote: the job.
        scheduled_as: the scheduler's name of it: a later run of it takes over the claim of an earlier one.
    """

    def run(jobs: Iterable[tuple[str, Any]]) -> Generator[Event, None, None]:
        return run_jobs(remote.function, jobs, 1, remote.processes, timeout=remote.timeout, retry=remote.retry)

    jobs = [(remote.key, remote.job)]
    if remote.store is None:
        return run(jobs)
    return run_claimed(jobs, Store(remote.store), run, this_process(scheduled_as))


def run_remote(remote: RemoteJob, scheduled_as: str) -> Outcome:
    """Run a job here and return how it ended. What its function returns does not travel: jobs write files."""
    with closing(events_of(remote, scheduled_as)) as events:
        ended = tuple(replace(event, result=None) for event in events if event.kind in ("done", "failed"))
    return Outcome(ended)


def run_sending_back(remote: RemoteJob) -> tuple[Outcome, dict[str, bytes]]:
    """Run a cell on a machine that does not see its results folder. How it ended is returned, with its files by name."""
    alone = replace(remote, function=remote.elsewhere, store=None, processes=1)
    with closing(events_of(alone, "")) as events:
        *_, last = events
    return Outcome((replace(last, result=None),)), last.result or {}
