"""The processes of one job, one or several: they live and die together."""

import importlib
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing import forkserver, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from qtablate.execute.events import Event, Member, Notice, Progress
from qtablate.interrupts import SIGNALS, blocked

_REPORT_EVERY = 0.25  # seconds between two progress reports of one job
_PATIENCE = 5.0  # seconds between asking a process to end and ending it
_GROUP = 0.5  # seconds in which a signal to the whole group, which ended a job, reaches the sweep too
_UNKNOWN = 255  # exit code of a process whose fork server is gone


class Team:
    """Runs `function(job, report)` in a process, or `function(job, report, member)` in each of several. Of these the first
    speaks for the job, and when one fails the others are ended, since they would wait for it for ever."""

    def __init__(self, key: str, slot: int, devices: Sequence[str | None], began: float = 0.0) -> None:
        """`devices`: the GPU of each process, as CUDA_VISIBLE_DEVICES names it; None where there is none. `began`: by the
        caller's clock."""
        self.key, self.slot, self._devices = key, slot, devices
        self._began = self._last_heard = began
        self._silent = False
        self._processes: list[Any] = []
        self._connections: list[Connection] = []
        self._said: dict[int, tuple[str, Any]] = {}
        """The last word of each process that is over: `done`, `failed`, `died` without one, or `ended` from here."""
        self._folder: Path | None = None
        self.over = False

    def start(self, context: ForkServerContext, function: str, job: Any) -> None:
        """Start the processes. Raises whatever keeps one from starting; `end` then ends the others."""
        world = len(self._devices)
        if world > 1:
            self._folder = Path(tempfile.mkdtemp(prefix="qtablate-"))
        for rank, device in enumerate(self._devices):
            ours, theirs = context.Pipe(duplex=False)
            self._connections.append(ours)
            member = Member(rank, world, self._folder / "meeting") if self._folder else None
            with theirs:
                self._processes.append(_start(context, (function, job, theirs, device, member)))

    @property
    def connections(self) -> list[Connection]:
        """That may still bring something."""
        return [one for rank, one in enumerate(self._connections) if rank not in self._said]

    def drain(self, now: float = 0.0) -> Iterator[Event]:
        """What has been said since, `now` by the caller's clock; `done` or `failed` is the last, and the job is over."""
        for rank in range(len(self._devices)):
            for kind, content in self._listen(rank):
                self._last_heard, self._silent = now, False
                if kind == "notice":
                    yield Event(self.key, "notice", text=content)
                elif rank == 0:
                    yield Event(self.key, "progress", content)
        if any(kind != "done" for kind, _ in self._said.values()):
            if ("died", -signal.SIGTERM) in self._said.values():
                time.sleep(_GROUP)
            self.end()
            yield self._failure()
        elif len(self._said) == len(self._devices):
            for process in self._processes:
                process.join(_PATIENCE)  # it has said all: a thread that it left behind holds up nobody
            self.end()
            yield Event(self.key, "done", result=self._said[0][1])

    def watch(self, now: float, silence: float, limit: float | None) -> Iterator[Event]:
        """Say once when nothing was heard for `silence` seconds; end the job, as failed, when it took more than `limit`."""
        if limit is not None and now - self._began > limit:
            self.end()
            error = (
                f"it took more than {_duration(limit)} (--cell-timeout) and was ended; with a higher limit the same command "
                "goes on at its last checkpoint"
            )
            yield Event(self.key, "failed", error=error)
        elif now - self._last_heard > silence and not self._silent:
            self._silent = True
            yield Event(self.key, "silent", text=f"nothing heard for {_duration(silence)}")

    def stop(self) -> None:
        if not self.over:
            for process in self._processes:
                with suppress(ValueError):  # `end` was interrupted, and has closed it
                    process.terminate()

    def end(self) -> None:
        """End what runs, and hear what it had to say."""
        if self.over:
            return
        heard = set(self._said)
        self.stop()
        for rank, process in enumerate(self._processes):
            process.join(_PATIENCE)
            stuck = process.is_alive()
            if stuck:
                process.kill()
                process.join(_PATIENCE)  # one that waits for a dead disk is left to itself
            for _ in self._listen(rank):
                pass
            if rank not in heard and (stuck or self._said.get(rank, ("died", -signal.SIGTERM)) == ("died", -signal.SIGTERM)):
                self._said[rank] = "ended", None
            with suppress(ValueError):
                process.close()  # which also ends one that outlived its fork server
        for connection in self._connections:
            connection.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self.over = True

    def _listen(self, rank: int) -> Iterator[tuple[str, Any]]:
        """Progress and notices of a process; its last word is kept."""
        connection = self._connections[rank]
        try:
            while rank not in self._said and connection.poll():
                kind, content = connection.recv()
                if kind in ("progress", "notice"):
                    yield kind, content
                else:
                    self._said[rank] = kind, content
        except (EOFError, OSError):  # the latter where it was cut short
            self._processes[rank].join(_PATIENCE)
            self._said[rank] = "died", self._processes[rank].exitcode
        except Exception as error:  # it was pickled there, and cannot be unpickled here
            self._said[rank] = "failed", (time.monotonic(), f"its result cannot be read: {in_words(error)}", _trace())

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


def in_words(error: BaseException) -> str:
    """Type and message of an error, fit for any terminal and any file."""
    try:
        text = str(error)
    except Exception:
        text = "its message cannot be made"
    return _clean(f"{type(error).__name__}: {text}")


def _trace() -> str:
    return _clean(traceback.format_exc())


def _clean(text: str) -> str:
    """Without lone surrogates, which nothing prints."""
    return text.encode("utf-8", "backslashreplace").decode()


def _duration(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def _how_it_died(code: int | None) -> str:
    if code is None:
        return "the process cut its connection to the sweep and was ended"
    if code == _UNKNOWN:
        return f"the process ended with exit code {code}, or the fork server was killed and how it ended is not known"
    if code >= 0:
        return f"the process ended with exit code {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    return f"the process was killed by {signal.Signals(-code).name}{hint}"


def _start(context: ForkServerContext, args: tuple[Any, ...]) -> Any:
    """A process that runs `_child`. Where the fork server is found dead, another one is started."""
    for pause in (0.1, 0.5, 2.0, None):  # one that is being killed takes no more, and is not dead yet
        start_server()
        process = context.Process(target=_child, args=args, daemon=True)
        try:
            process.start()
            break
        except (EOFError, OSError):
            if pause is None:
                raise
            time.sleep(pause)
    return process


def start_server() -> None:
    """Start the fork server, where none runs. What a terminal or a supervisor sends to the whole group reaches neither it nor
    Python's resource tracker: they end with their owner, and without a word. Were they to print what a signal did to them, it
    would be a traceback from the middle of an import."""
    with blocked(signal.SIGHUP):  # of the other two it takes care itself, and for that it unblocks them
        resource_tracker.ensure_running()
    with blocked():
        forkserver.ensure_running()


def _child(function: str, job: Any, connection: Connection, device: str | None, member: Member | None) -> None:
    for signum in (signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # they reach the whole group; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # whatever the sweep's own caller ignores
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if device is not None:  # before CUDA is looked at: the fork server never does
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):  # of a launcher around the sweep: Accelerate would look for its ranks
        os.environ.pop(name, None)

    def alone() -> None:  # nobody wants the result any more; a file that is being written is written aside
        if member:
            shutil.rmtree(member.meeting.parent, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=_outlive, args=(alone,), daemon=True).start()
    last = 0.0

    def say(kind: str, content: Any = None) -> None:
        try:
            connection.send((kind, content))
        except OSError:  # the parent is gone
            alone()

    def report(said: Progress | Notice) -> None:
        nonlocal last
        if isinstance(said, Notice):
            say("notice", _clean(said.text))
            return
        now = time.monotonic()
        if now - last >= _REPORT_EVERY or said.done == said.total:
            last = now
            say("progress", said)

    module, _, name = function.partition(":")
    try:
        say("done", getattr(importlib.import_module(module), name)(job, report, *([member] if member else [])))
    except BaseException as error:  # a result that cannot be pickled too, and SystemExit, which would end it without a word
        say("failed", (time.monotonic(), in_words(error), _trace()))


def _outlive(then: Callable[[], None]) -> None:
    """Wait for the end of the process that asked for this one, which is the sweep and not the fork server; then do this."""
    owner = parent_process()
    assert owner is not None
    owner.join()
    then()
