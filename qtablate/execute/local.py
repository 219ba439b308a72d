"""Jobs on the cores of this machine: a fresh process each, from a fork server that has imported torch once.

A crash or an out-of-memory kill takes down that job alone. When the parent dies, its jobs end at their next report.
"""

import importlib
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from qtablate.execute.events import Event, Progress

_DRIVER = "/proc/driver/nvidia/gpus"
_REPORT_EVERY = 0.25  # seconds between two progress reports of one job


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


def at_once() -> int:
    """Jobs that run together where the user does not say: one a GPU, or one a core."""
    return len(gpus()) or cores()


def run_jobs(function: str, jobs: Sequence[tuple[str, Any]], workers: int) -> Generator[Event, None, None]:
    """Run `function(job, report)` for each (key, job), at most `workers` at once; yields what happens, as it happens.

    `function` is named as "module:name", so that only the children import it.

    Closing the iterator, or an exception in its consumer (Ctrl-C, say), ends the running jobs.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["qtablate.run"])
    waiting = list(jobs)[::-1]
    running: dict[str, tuple[BaseProcess, Connection]] = {}
    slots: dict[str, int] = {}
    devices = gpus()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                key, job = waiting.pop()
                ours, theirs = context.Pipe(duplex=False)
                slots[key] = min(set(range(workers)) - {slots[one] for one in running})
                device = devices[slots[key] % len(devices)] if devices else None
                process: BaseProcess = context.Process(target=_child, args=(function, job, theirs, device), daemon=True)
                process.start()
                theirs.close()
                running[key] = (process, ours)
                yield Event(key, "started")
            wait([connection for _, connection in running.values()], timeout=1.0)
            for key, (process, connection) in list(running.items()):
                over = yield from _drain(key, process, connection)
                if over:
                    connection.close()
                    process.join()
                    del running[key]
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            process.join(5)
            if process.is_alive():
                process.kill()


def _drain(key: str, process: BaseProcess, connection: Connection) -> Generator[Event, None, bool]:
    """Yield what a job has said; returns whether it is over."""
    try:
        while connection.poll():
            kind, content = connection.recv()
            if kind == "progress":
                yield Event(key, "progress", content)
            elif kind == "done":
                yield Event(key, "done", result=content)
                return True
            else:
                yield Event(key, "failed", error=content[0], traceback=content[1])
                return True
    except EOFError:  # it died without a word
        process.join()
        code = process.exitcode or 0
        why = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        yield Event(key, "failed", error=f"the process was {why}{hint}" if code < 0 else f"the process {why}")
        return True
    return False


def _child(function: str, job: Any, connection: Connection, device: str | None) -> None:
    if device is not None:  # before CUDA is looked at: the fork server never does
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    last = 0.0

    def say(kind: str, content: Any = None) -> None:
        try:
            connection.send((kind, content))
        except OSError:  # the parent is gone
            os._exit(1)

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY or progress.done == progress.total:
            last = now
            say("progress", progress)

    module, _, name = function.partition(":")
    try:
        result = getattr(importlib.import_module(module), name)(job, report)
    except Exception as error:
        say("failed", (f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        say("done", result)
