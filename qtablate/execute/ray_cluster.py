"""Run jobs on an existing Ray cluster: each is a task, which Ray runs again where its node is lost.

Where the nodes see the results folder, cells write into it under claims, as everywhere. Where they do not, a cell is run in a
temporary folder of its node, and its files are sent back.
"""

import socket
import uuid
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtablate.errors import ConfigError
from qtablate.execute.events import Event
from qtablate.execute.follow import Follower
from qtablate.execute.remote import Outcome, RemoteJob, run_remote, run_sending_back
from qtablate.files import write_text
from qtablate.records import of_cell
from qtablate.store import Store

_LOOK_SECONDS = 1.0  # between two looks at progress
_CONNECT_SECONDS = 10.0
_RETRIES = 3  # of a task whose node was lost
RECORD = "record.json"


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Where tasks run, and what each of them takes."""

    address: str
    """Of the cluster: `auto`, or HOST:PORT."""
    cpus: float
    gpus: float
    at_once: int | None = None
    """Tasks that are submitted at once; None: all, and Ray runs as many as have room."""


@dataclass(frozen=True, slots=True)
class SentBack:
    """What a task returns: how its job ended and, where the folder is not shared, the files of its cell."""

    outcome: Outcome
    files: Mapping[str, bytes]
    node: str


def run_on_ray(
    jobs: Sequence[RemoteJob], root: Path, options: RayOptions, look_seconds: float = _LOOK_SECONDS
) -> Generator[Event, None, None]:
    """Run jobs and yield their events, as local.run_jobs does. Closing the iterator ends the tasks.

    Args:
        jobs: what to run.
        root: the results folder.
        options: of the cluster and its tasks.
        look_seconds: between two looks at progress.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """
    ray = _connected(options.address)
    store, mark = Store(root), root.absolute() / f".shared-{uuid.uuid4().hex}"
    write_text(mark, "")
    task = ray.remote(num_cpus=options.cpus, num_gpus=options.gpus, max_retries=_RETRIES)(_work)
    waiting = [(job.key, job) for job in jobs][::-1]
    running: dict[Any, RemoteJob] = {}
    follower, told = Follower(store.claims), set[str]()
    try:
        while waiting or running:
            while waiting and len(running) < (options.at_once or len(jobs)):
                key, job = waiting.pop()
                running[task.remote(job, mark)] = job
                yield Event(key, "queued", text="Ray task")
            over, _ = ray.wait(list(running), timeout=look_seconds)
            for job in running.values():
                yield from follower.look(job.key)
            for reference in over:
                yield from _end(store, running.pop(reference), _result(ray, reference), told)
    finally:
        for reference in running:
            with suppress(Exception):
                ray.cancel(reference, force=True)
        mark.unlink(missing_ok=True)
        ray.shutdown()


def _connected(address: str) -> Any:
    """Return the module of Ray, connected to a cluster. Raises ConfigError."""
    try:
        import ray
    except ImportError:
        raise ConfigError("--executor ray needs Ray: pip install 'qtablate[ray]'") from None
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    try:
        if colon and port.isdigit():  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
        ray.init(address=address, log_to_driver=False, configure_logging=False, include_dashboard=False)
    except (OSError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"--ray {address}: no Ray cluster there ({first}): start one with `ray start`") from None
    return ray


def _work(job: RemoteJob, mark: Path) -> SentBack:
    """Run a job in a task of Ray."""
    import ray

    context = ray.get_runtime_context()
    name, node = f"Ray task {context.get_task_id()}", str(context.get_node_id())
    if job.store is None or mark.exists():
        return SentBack(run_remote(job, name), {}, node)
    return SentBack(*run_sending_back(job), node)


def _result(ray: Any, reference: Any) -> SentBack | str:
    """Return what a task has returned, or how it failed."""
    try:
        result: SentBack = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"Ray: {str(error).strip().splitlines()[0]}"
    return result


def _end(store: Store, job: RemoteJob, result: SentBack | str, told: set[str]) -> Generator[Event, None, None]:
    """Write what was sent back, and yield the last event of a job."""
    if isinstance(result, str):
        if job.store is not None and not store.finished(job.key):
            store.write_record(of_cell(job.job.cell, "failed", error=result))
        yield Event(job.key, "failed", error=result)
        return
    if result.files:
        if result.node not in told:
            told.add(result.node)
            yield Event(job.key, "notice", text=f"node {result.node[:8]} does not see {store.root}: files are sent back")
        for name in sorted(result.files, key=lambda name: name == RECORD):  # the record last: it says that the rest is whole
            store.write_file(store.cell_file(job.key, name), result.files[name])
    yield result.outcome.events[-1]
