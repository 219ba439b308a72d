"""Where the jobs of a sweep run: on this machine, or as jobs of a cluster. A new executor is an entry of EXECUTORS."""

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from qtablate.cell.jobs import CellJob, FeatureJob
from qtablate.claims.owner import this_process
from qtablate.execute.claimed import run_claimed
from qtablate.execute.events import Event
from qtablate.execute.local import run_jobs
from qtablate.execute.remote import RemoteJob
from qtablate.execute.worker import Template
from qtablate.sweep.plan import SweepPlan
from qtablate.sweep.retries import RetryInParts

MayStart = Callable[[], bool]
"""Whether one more cell may be started (--max-failures)."""
FEATURES = "qtablate.cell.features:compute_features"
CELL = "qtablate.cell.run:run_cell"
ELSEWHERE = "qtablate.cell.elsewhere:run_cell_elsewhere"


class Executor(Protocol):
    """Runs jobs somewhere and yields their events (execute/events.py): `done` or `failed` is the last one of each."""

    def run_features(self, jobs: Sequence[tuple[str, FeatureJob]]) -> Generator[Event, None, None]:
        """Compute visual features, which all cells read."""
        ...

    def run_cells(self, jobs: Sequence[tuple[str, CellJob]], may_start: MayStart) -> Generator[Event, None, None]:
        """Run cells, each under a claim (execute/claimed.py). One that fails leaves a failed record.

        Where cells wait here, none is started unless `may_start` says so; those have no event.
        """
        ...


class Local:
    """Processes of this machine."""

    def __init__(self, plan: SweepPlan) -> None:
        self._plan = plan

    def run_features(self, jobs: Sequence[tuple[str, FeatureJob]]) -> Generator[Event, None, None]:
        """Compute features in as many processes as cells would take."""
        return run_jobs(FEATURES, jobs, self._plan.processes)

    def run_cells(self, jobs: Sequence[tuple[str, CellJob]], may_start: MayStart) -> Generator[Event, None, None]:
        """Run cells as forks of a process that has read what they share."""
        run, workers = self._plan.config.run, self._plan.workers
        # what decides the inputs of a cell is the same in all that have as many frames per clip
        inputs = {job.cell.condition.frames: job.inputs for _, job in jobs}
        template = Template("qtablate.cell.template", list(inputs.values()))

        def run_here(claimed: Iterable[tuple[str, Any]]) -> Generator[Event, None, None]:
            return run_jobs(
                CELL,
                claimed,
                workers,
                run.processes_per_cell,
                timeout=run.cell_timeout_seconds,
                template=template,
                retry=RetryInParts(run.oom_retries, run.processes_per_cell),
            )

        return run_claimed(jobs, self._plan.store, run_here, this_process(), may_start=may_start)


class Slurm:
    """Jobs of a Slurm cluster."""

    def __init__(self, plan: SweepPlan) -> None:
        from qtablate.execute.slurm import SlurmOptions

        run = plan.config.run
        self._plan = plan
        self._options = SlurmOptions(dict(run.slurm_parameters), run.jobs, run.processes_per_cell)

    def run_features(self, jobs: Sequence[tuple[str, FeatureJob]]) -> Generator[Event, None, None]:
        """Compute features in jobs: the machine that submits them may have no GPU."""
        return self._run([RemoteJob(FEATURES, key, job) for key, job in jobs])

    def run_cells(self, jobs: Sequence[tuple[str, CellJob]], may_start: MayStart) -> Generator[Event, None, None]:
        """Run a cell a job."""
        return self._run(_remote(self._plan, jobs))

    def _run(self, jobs: list[RemoteJob]) -> Generator[Event, None, None]:
        from qtablate.execute.slurm import run_on_slurm

        return run_on_slurm(jobs, self._plan.store.root, self._options)


class Ray:
    """Tasks of a Ray cluster."""

    def __init__(self, plan: SweepPlan) -> None:
        from qtablate.execute.ray_cluster import RayOptions

        run = plan.config.run
        self._plan = plan
        self._options = RayOptions(run.ray, run.processes_per_cell, run.gpus_per_cell, run.jobs)

    def run_features(self, jobs: Sequence[tuple[str, FeatureJob]]) -> Generator[Event, None, None]:
        """Compute features here: where the nodes do not share the cache, they would be lost."""
        return run_jobs(FEATURES, jobs, self._plan.processes)

    def run_cells(self, jobs: Sequence[tuple[str, CellJob]], may_start: MayStart) -> Generator[Event, None, None]:
        """Run a cell a task."""
        from qtablate.execute.ray_cluster import run_on_ray

        return run_on_ray(_remote(self._plan, jobs), self._plan.store.root, self._options)


def _remote(plan: SweepPlan, jobs: Sequence[tuple[str, CellJob]]) -> list[RemoteJob]:
    """Return cells as jobs for other machines, which see the results folder under its absolute name, or not at all."""
    run, root = plan.config.run, plan.store.root.absolute()
    retry = RetryInParts(run.oom_retries, run.processes_per_cell)
    return [
        RemoteJob(CELL, key, replace(job, store=root), run.processes_per_cell, run.cell_timeout_seconds, root, ELSEWHERE, retry)
        for key, job in jobs
    ]


EXECUTORS: Mapping[str, Callable[[SweepPlan], Executor]] = {"local": Local, "slurm": Slurm, "ray": Ray}
"""By the name that --executor takes."""


def executor_of(plan: SweepPlan) -> Executor:
    """Return the executor that a plan's configuration names."""
    return EXECUTORS[plan.config.run.executor](plan)
