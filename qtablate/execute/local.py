"""Jobs on the cores of this machine: a fresh process each, from a fork server that has imported torch once.

A crash or an out-of-memory kill takes down that job alone. When the parent dies, its jobs end at their next report.
"""

import multiprocessing
import os
from collections.abc import Generator, Sequence
from multiprocessing.connection import wait
from typing import Any

from qtablate.execute.events import Event
from qtablate.execute.team import Team

_DRIVER = "/proc/driver/nvidia/gpus"


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """NVIDIA GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them; found without importing torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part.strip() for part in named.split(",") if part.strip() not in ("", "-1")]
    try:
        return [str(number) for number, _ in enumerate(sorted(os.listdir(_DRIVER)))]
    except OSError:
        return []


def at_once(ranks: int = 1) -> int:
    """Jobs that run together where the user does not say: a process a GPU, or one a core; a job has `ranks` processes."""
    return max(1, (len(gpus()) or cores()) // ranks)


def run_jobs(function: str, jobs: Sequence[tuple[str, Any]], workers: int, ranks: int = 1) -> Generator[Event, None, None]:
    """Run `function(job, report)` for each (key, job), at most `workers` at once; yields what happens, as it happens.

    `function` is named as "module:name", so that only the children import it. With several ranks each job is
    `function(job, report, member)` in as many processes, each with a GPU of its own where there are any.

    Closing the iterator, or an exception in its consumer (Ctrl-C, say), ends the running jobs.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qtablate.run"])
    waiting = list(jobs)[::-1]
    running: list[Team] = []
    devices = gpus()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                key, job = waiting.pop()
                slot = min(set(range(workers)) - {team.slot for team in running})
                places = range(slot * ranks, (slot + 1) * ranks)
                team = Team(key, slot, [devices[place % len(devices)] if devices else None for place in places])
                running.append(team)
                team.start(context, function, job)
                yield Event(key, "started")
            wait([connection for team in running for connection in team.connections], timeout=1.0)
            for team in list(running):
                yield from team.drain()
                if team.over:
                    running.remove(team)
    finally:
        for team in running:
            team.stop()
        for team in running:
            team.end()
