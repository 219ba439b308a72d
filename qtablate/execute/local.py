"""Jobs on the cores of this machine: a fresh process each, from a fork server that has imported torch once.

A crash or an out-of-memory kill takes down that job alone. When the parent dies, its jobs end at once.
"""

import multiprocessing
import os
import time
import traceback
from collections.abc import Generator, Sequence
from multiprocessing.connection import wait
from typing import Any

from qtablate.execute.events import Event
from qtablate.execute.worker_group import Team, in_words

SILENCE = 60.0  # seconds after which a job that says nothing is named
_STEP = 5.0  # seconds that one turn of the loop counts at most: one that took longer was suspended, and its jobs with it
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


def run_jobs(
    function: str,
    jobs: Sequence[tuple[str, Any]],
    workers: int,
    ranks: int = 1,
    silence: float = SILENCE,
    limit: float | None = None,
) -> Generator[Event, None, None]:
    """Run `function(job, report)` for each (key, job), at most `workers` at once; yields what happens, as it happens.

    `function` is named as "module:name", so that only the children import it. With several ranks each job is
    `function(job, report, member)` in as many processes, each with a GPU of its own where there are any.

    A job that fails, dies, cannot be started or takes more than `limit` seconds is a `failed` event, and the others go on;
    one from which nothing is heard for `silence` seconds is a `silent` event, once until it is heard again.

    Closing the iterator, or an exception in its consumer (Ctrl-C, say), ends the running jobs.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qtablate.cell.run"])
    waiting = list(jobs)[::-1]
    running: list[Team] = []
    devices = gpus()
    awake, looked = 0.0, time.monotonic()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                key, job = waiting.pop()
                slot = min(set(range(workers)) - {team.slot for team in running})
                places = range(slot * ranks, (slot + 1) * ranks)
                team = Team(key, slot, [devices[place % len(devices)] if devices else None for place in places], awake)
                running.append(team)
                yield Event(key, "started")
                try:
                    team.start(context, function, job)
                except Exception as error:
                    team.end()
                    running.remove(team)
                    told = f"no process could be started for it: {in_words(error)}"
                    yield Event(key, "failed", error=told, traceback=traceback.format_exc())
            if not running:
                continue
            wait([connection for team in running for connection in team.connections], timeout=min(1.0, silence))
            now = time.monotonic()
            awake, looked = awake + min(now - looked, _STEP), now
            for team in list(running):
                yield from team.drain(awake)
                if not team.over:
                    yield from team.watch(awake, silence, limit)
                if team.over:
                    running.remove(team)
    finally:
        for team in running:
            team.stop()
        for team in running:
            team.end()
