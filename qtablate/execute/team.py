"""The processes of one job, one or several: they live and die together."""

import importlib
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from qtablate.execute.events import Event, Member, Progress

_REPORT_EVERY = 0.25  # seconds between two progress reports of one job
_PATIENCE = 5.0  # seconds between asking a process to end and ending it


class Team:
    """Runs `function(job, report)` in a process, or `function(job, report, member)` in each of several. Of these the first
    speaks for the job, and when one fails the others are ended, since they would wait for it for ever."""

    def __init__(self, key: str, slot: int, devices: Sequence[str | None]) -> None:
        """`devices`: the GPU of each process, as CUDA_VISIBLE_DEVICES names it; None where there is none."""
        self.key, self.slot, self._devices = key, slot, devices
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        self._said: dict[int, tuple[str, Any]] = {}
        """The last word of each process that is over: `done`, `failed`, `died` without one, or `ended` from here."""
        self._folder: Path | None = None
        self.over = False

    def start(self, context: ForkServerContext, function: str, job: Any) -> None:
        world = len(self._devices)
        if world > 1:
            self._folder = Path(tempfile.mkdtemp(prefix="qtablate-"))
        for rank, device in enumerate(self._devices):
            ours, theirs = context.Pipe(duplex=False)
            member = Member(rank, world, self._folder / "meeting") if self._folder else None
            process = context.Process(target=_child, args=(function, job, theirs, device, member), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
            self._connections.append(ours)

    @property
    def connections(self) -> list[Connection]:
        """That may still bring something."""
        return [one for rank, one in enumerate(self._connections) if rank not in self._said]

    def drain(self) -> Iterator[Event]:
        """What has been said since; `done` or `failed` is the last, and the job is over."""
        for rank in range(len(self._devices)):
            for progress in self._listen(rank):
                if rank == 0:
                    yield Event(self.key, "progress", progress)
        if any(kind != "done" for kind, _ in self._said.values()):
            self.end()
            yield self._failure()
        elif len(self._said) == len(self._devices):
            for process in self._processes:
                process.join()
            self.end()
            yield Event(self.key, "done", result=self._said[0][1])

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()

    def end(self) -> None:
        """End what runs, and hear what it had to say."""
        heard = set(self._said)
        self.stop()
        for rank, process in enumerate(self._processes):
            process.join(_PATIENCE)
            stuck = process.is_alive()
            if stuck:
                process.kill()
                process.join()
            for _ in self._listen(rank):
                pass
            if rank not in heard and (stuck or self._said.get(rank) == ("died", -signal.SIGTERM)):
                self._said[rank] = "ended", None
            self._connections[rank].close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.over = True

    def _listen(self, rank: int) -> Iterator[Progress]:
        """Progress that a process has reported; its last word is kept."""
        connection = self._connections[rank]
        try:
            while rank not in self._said and connection.poll():
                kind, content = connection.recv()
                if kind == "progress":
                    yield content
                else:
                    self._said[rank] = kind, content
        except (EOFError, OSError):  # the latter where it was cut short
            self._processes[rank].join()
            self._said[rank] = "died", self._processes[rank].exitcode or 0

    def _failure(self) -> Event:
        """A rank that died, else the first that failed: the others only lost it."""
        lost = {rank: code for rank, (kind, code) in self._said.items() if kind == "died"}
        failed = {rank: content for rank, (kind, content) in self._said.items() if kind == "failed"}
        if lost:
            rank, code = next(iter(lost.items()))
            error, trace = _how_it_died(code), ""
        else:
            rank = min(failed, key=lambda one: failed[one][0])
            _, error, trace = failed[rank]
        world = len(self._devices)
        return Event(self.key, "failed", error=f"rank {rank} of {world}: {error}" if world > 1 else error, traceback=trace)


def _how_it_died(code: int) -> str:
    if code >= 0:
        return f"the process ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"the process was killed by {signal.Signals(-code).name}{hint}"


def _child(function: str, job: Any, connection: Connection, device: str | None, member: Member | None) -> None:
    if device is not None:  # before CUDA is looked at: the fork server never does
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # of a launcher around the sweep: Accelerate would look for its ranks
        os.environ.pop(name, None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    last = 0.0

    def say(kind: str, content: Any = None) -> None:
        try:
            connection.send((kind, content))
        except OSError:  # the parent is gone
            if member:
                shutil.rmtree(member.meeting.parent, ignore_errors=True)
            os._exit(1)

    def report(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_EVERY or progress.done == progress.total:
            last = now
            say("progress", progress)

    module, _, name = function.partition(":")
    try:
        result = getattr(importlib.import_module(module), name)(job, report, *([member] if member else []))
    except Exception as error:
        say("failed", (time.monotonic(), f"{type(error).__name__}: {error}", traceback.format_exc()))
    else:
        say("done", result)
