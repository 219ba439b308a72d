"""Run jobs on the cores and GPUs of this machine: a fresh process for each, from a fork server that has imported torch once.

A crash or an out-of-memory kill takes down that job alone. When the parent dies, its jobs end at once.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from typing import Any

from qtablate.execute.events import Event, Retry
from qtablate.execute.resources import gpus
from qtablate.execute.worker import Template, describe_error, fork_server_of_its_own
from qtablate.execute.worker_group import WorkerGroup

SILENT_AFTER = 60.0
"""Seconds without a report after which a running job is named to the user."""
_MAX_TURN = 5.0  # seconds that one turn of the loop counts at most: one that took longer was suspended, and its jobs with it
_PRELOAD = ["qtablate.cell.run"]  # what the fork server imports, by name: this package imports neither cells nor torch


def run_jobs(
    function: str,
    jobs: Iterable[tuple[str, Any]],
    workers: int,
    processes_per_job: int = 1,
    silent_after: float = SILENT_AFTER,
    timeout: float | None = None,
    template: Template | None = None,
    retry: Retry | None = None,
) -> Generator[Event, None, None]:
    """Run `function(job, report)` for each job and yield events as they happen.

    A job that fails, dies, cannot be started or exceeds the timeout is a `failed` event, and the others go on. A job that
    reports nothing for long is a `silent` event, once until it reports again. Closing the iterator, or an exception in its
    consumer (Ctrl-C, say), ends the running jobs.

    Args:
        function: "module:name", so that only the children import it. With several processes per job it is
            `function(job, report, rank_info)`, called in each of them, each with a GPU of its own where there are any.
        jobs: (key, job) pairs; each is asked for when there is room for it.
        workers: jobs that run at once; their processes share the GPUs evenly (slot_devices).
        silent_after: seconds without a report until a `silent` event.
        timeout: seconds after which a job is ended as failed; None: never.
        template: what the jobs' processes share from the start.
        retry: whether a job that fails is tried again, as another job: that is a `notice`, and no `failed` event.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    with fork_server_of_its_own(_PRELOAD, template) if template else nullcontext():
        yield from _run_in(context, function, jobs, workers, processes_per_job, silent_after, timeout, retry)


def slot_devices(slot: int, processes_per_job: int, devices: Sequence[str]) -> list[str | None]:
    """Return the GPU of each process of the job in a slot, None where there are none: slot by slot, and around again where
    there are more processes than GPUs."""
    numbers = range(slot * processes_per_job, (slot + 1) * processes_per_job)
    return [devices[number % len(devices)] if devices else None for number in numbers]


def _run_in(
    context: ForkServerContext,
    function: str,
    jobs: Iterable[tuple[str, Any]],
    workers: int,
    processes_per_job: int,
    silent_after: float,
    timeout: float | None,
    retry: Retry | None,
) -> Generator[Event, None, None]:
    """Run the jobs in processes of this context; arguments as in `run_jobs`."""
    waiting = iter(jobs)
    of_key: dict[str, Any] = {}
    """The jobs that were begun."""
    again: list[tuple[str, Any]] = []
    """Those that are tried again, before any other is begun."""
    running: list[WorkerGroup] = []
    devices = gpus()
    awake, last_turn = 0.0, time.monotonic()  # `awake` is a clock that stands still while this process is suspended
    try:
        while True:
            while len(running) < workers and (following := again.pop() if again else next(waiting, None)):
                key, job = following
                of_key[key] = job
                slot = min(set(range(workers)) - {group.slot for group in running})
                group = WorkerGroup(key, slot, slot_devices(slot, processes_per_job, devices), awake)
                running.append(group)
                yield Event(key, "started")
                try:
                    group.start(context, function, job)
                except Exception as error:
                    group.end()
                    running.remove(group)
                    message = f"no process could be started for it: {describe_error(error)}"
                    yield Event(key, "failed", error=message, traceback=traceback.format_exc())
            if not running:
                break
            wait([connection for group in running for connection in group.connections], timeout=min(1.0, silent_after))
            now = time.monotonic()
            awake, last_turn = awake + min(now - last_turn, _MAX_TURN), now
            for group in list(running):
                for event in group.events(awake, silent_after, timeout):
                    decided = retry(of_key[event.key], event) if retry and event.kind == "failed" else None
                    if decided and decided.job is not None:
                        again.append((event.key, decided.job))
                        event = Event(event.key, "notice", text=decided.text)
                    elif decided:
                        event = replace(event, error=f"{event.error} ({decided.text})")
                    yield event
                if group.over:
                    running.remove(group)
    finally:
        for group in running:
            group.stop()
        for group in running:
            group.end()
