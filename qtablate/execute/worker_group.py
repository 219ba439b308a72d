"""The processes of one job, one or several: they live and die together."""

import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from qtablate.execute.events import Event, Notice, Progress
from qtablate.execute.resources import oom_kills
from qtablate.execute.worker import FinalStatus, describe_error, describe_traceback, start_worker
from qtablate.train.rank_info import RankInfo

_GRACE = 5.0  # seconds between asking a process to end and killing it
_GROUP_SIGNAL_DELAY = 0.5  # seconds in which a signal to the whole process group, which ended a job, reaches the sweep too
_EXIT_CODE_UNKNOWN = 255  # exit code of a process whose fork server is gone


class WorkerGroup:
    """Runs one job: `function(job, report)` in a process, or `function(job, report, rank_info)` in each of several.

    Rank 0 reports for the job. When one process fails the others are ended, since they would wait for it for ever.
    """

    def __init__(self, key: str, slot: int, devices: Sequence[str | None], started: float = 0.0) -> None:
        """Describe the group; `start` starts its processes.

        Args:
            key: the job's.
            slot: which of the executor's places it takes.
            devices: GPU of each process, as CUDA_VISIBLE_DEVICES names it; None where there is none.
            started: seconds, by the caller's clock.
        """
        self.key, self.slot, self._devices = key, slot, devices
        self._started = self._last_report = started
        self._progress: Progress | None = None
        self._oom_kills = oom_kills()
        self._silent = False
        self._processes: list[ForkServerProcess] = []
        self._connections: list[Connection] = []
        self._final: dict[int, FinalStatus] = {}
        """By rank, of each process that is over."""
        self._folder: Path | None = None
        self.over = False

    def start(self, context: ForkServerContext, function: str, job: Any) -> None:
        """Start the processes. Raises whatever keeps one from starting; `end` then ends the others."""
        world_size = len(self._devices)
        if world_size > 1:
            self._folder = Path(tempfile.mkdtemp(prefix="qtablate-"))
        for rank, device in enumerate(self._devices):
            ours, theirs = context.Pipe(duplex=False)
            self._connections.append(ours)
            rank_info = RankInfo(rank, world_size, self._folder / "rendezvous") if self._folder else None
            with theirs:
                self._processes.append(start_worker(context, function, job, theirs, device, rank_info))

    @property
    def connections(self) -> list[Connection]:
        """The connections of processes that are not over: something may still arrive."""
        return [connection for rank, connection in enumerate(self._connections) if rank not in self._final]

    def poll(self, now: float = 0.0) -> Iterator[Event]:
        """Yield what has arrived since the last call. `done` or `failed` is the last event, and the job is over.

        Args:
            now: seconds, by the caller's clock.
        """
        for rank in range(len(self._devices)):
            for message in self._receive(rank):
                self._last_report, self._silent = now, False
                if isinstance(message, Notice):
                    yield Event(self.key, "notice", text=message.text)
                elif rank == 0:
                    self._progress = message
                    yield Event(self.key, "progress", message)
        if any(status.kind != "done" for status in self._final.values()):
            if any(status.died_of(signal.SIGTERM) for status in self._final.values()):
                time.sleep(_GROUP_SIGNAL_DELAY)
            self.end()
            yield self._failure()
        elif len(self._final) == len(self._devices):
            for process in self._processes:
                process.join(_GRACE)  # its result is here: a thread that it left behind holds up nobody
            self.end()
            yield Event(self.key, "done", result=self._final[0].result)

    def events(self, now: float, silent_after: float, timeout: float | None) -> Iterator[Event]:
        """Yield what has arrived, and then what the limits make of a job that is not over."""
        yield from self.poll(now)
        if not self.over:
            yield from self.check_limits(now, silent_after, timeout)

    def check_limits(self, now: float, silent_after: float, timeout: float | None) -> Iterator[Event]:
        """Yield `silent`, once, after `silent_after` seconds without a report; end the job as `failed` after `timeout`."""
        if timeout is not None and now - self._started > timeout:
            self.end()
            error = (
                f"it took more than {_format_seconds(timeout)} (--cell-timeout) and was ended; with a higher limit the same "
                "command goes on at its last checkpoint"
            )
            yield Event(self.key, "failed", error=error)
        elif now - self._last_report > silent_after and not self._silent:
            self._silent = True
            yield Event(self.key, "silent", text=f"nothing heard for {_format_seconds(silent_after)}")

    def stop(self) -> None:
        """Ask the processes to end, without waiting for them."""
        if not self.over:
            for process in self._processes:
                with suppress(ValueError):  # `end` was interrupted, and has closed it
                    process.terminate()

    def end(self) -> None:
        """End the processes, and keep the final status that each of them still reports."""
        if self.over:
            return
        finished = set(self._final)
        self.stop()
        for rank, process in enumerate(self._processes):
            process.join(_GRACE)
            stuck = process.is_alive()
            if stuck:
                process.kill()
                process.join(_GRACE)  # one that waits for a dead disk is left to itself
            for _ in self._receive(rank):
                pass
            if rank not in finished and (stuck or rank not in self._final or self._final[rank].died_of(signal.SIGTERM)):
                self._final[rank] = FinalStatus("ended")
            with suppress(ValueError):
                process.close()  # which also ends one that outlived its fork server
        for connection in self._connections:
            connection.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.over = True

    def _receive(self, rank: int) -> Iterator[Progress | Notice]:
        """Yield progress and notices of a process; its final status is kept."""
        connection = self._connections[rank]
        try:
            while rank not in self._final and connection.poll():
                message = connection.recv()
                if isinstance(message, FinalStatus):
                    self._final[rank] = message
                else:
                    yield message
        except (EOFError, OSError):  # the latter where a message was cut short
            self._processes[rank].join(_GRACE)
            self._final[rank] = FinalStatus("died", exit_code=self._processes[rank].exitcode)
        except Exception as error:  # it was pickled there, and cannot be unpickled here
            text = f"its result cannot be read: {describe_error(error)}"
            self._final[rank] = FinalStatus("failed", error=text, traceback=describe_traceback(), failed_at=time.monotonic())

    def _failure(self) -> Event:
        """Return the event of a process that died, else of the first that failed: the others only lost it."""
        died = [rank for rank, status in self._final.items() if status.kind == "died"]
        failed = [rank for rank, status in self._final.items() if status.kind == "failed"]
        rank = died[0] if died else min(failed, key=lambda rank: self._final[rank].failed_at)
        status = self._final[rank]
        error = _describe_death(status.exit_code) if died else status.error
        world_size = len(self._devices)
        if world_size > 1:
            error = f"rank {rank} of {world_size}: {error}"
        memory = status.out_of_memory or (status.died_of(signal.SIGKILL) and self._killed_for_memory())
        return Event(self.key, "failed", self._progress, error=error, traceback=status.traceback, out_of_memory=memory)

    def _killed_for_memory(self) -> bool:
        """Whether the kernel has killed some process for want of memory since this job began; True where it does not say."""
        kills = oom_kills()
        return kills is None or kills != self._oom_kills


def _format_seconds(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _describe_death(code: int | None) -> str:
    """Say how a process ended that reported no final status."""
    if code is None:
        return "the process cut its connection to the sweep and was ended"
    if code == _EXIT_CODE_UNKNOWN:
        return f"the process ended with exit code {code}, or the fork server was killed and how it ended is not known"
    if code >= 0:
        return f"the process ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"the process was killed by {signal.Signals(-code).name}{hint}"
