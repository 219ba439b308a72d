"""Write runs in a thread of their own: a tracker that is slow, or waits for a network, holds up neither cells nor display."""

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue

from qtablate.report.tracked_runs import TrackedRuns, read_tracked, write_tracked
from qtablate.run_config import TrackerName
from qtablate.store import Store
from qtablate.track import open_tracker
from qtablate.track.protocol import CellRun, Tracker

Read = Callable[[], CellRun | None]
"""Reads a cell's files, in the writer's thread."""


class RunWriter:
    """Gives each cell to some trackers. What goes wrong becomes a warning, and ends that tracker alone."""

    def __init__(self, store: Store, names: Sequence[TrackerName]) -> None:
        self._store = store
        self._trackers: dict[TrackerName, Tracker] = {}
        self._used: set[TrackerName] = set()
        self._tracked = read_tracked(store)
        self._waiting: SimpleQueue[Read | None] = SimpleQueue()
        self._warnings: SimpleQueue[str] = SimpleQueue()
        self._names = names
        self._moved = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="trackers", daemon=True)
        self._thread.start()

    def put(self, read: Read) -> None:
        """Have a cell written that is finished or has failed. One whose run is there as it is now is not written again."""
        self._waiting.put(read)

    def waiting(self) -> int:
        """Return how many cells are still to be written."""
        return self._waiting.qsize()

    def warnings(self) -> list[str]:
        """Return what went wrong since the last call."""
        return [self._warnings.get() for _ in range(self._warnings.qsize())]

    def close(self, patience: float, most: float = float("inf")) -> None:
        """Wait until everything is written.

        Args:
            patience: seconds in which nothing gets on, after which the rest is left to the next sweep.
            most: seconds after which it is left in any case.
        """
        self._waiting.put(None)
        began = self._moved = time.monotonic()
        while self._thread.is_alive():
            self._thread.join(0.1)
            now = time.monotonic()
            if self._thread.is_alive() and (now - self._moved > patience or now - began > most):
                names = ", ".join(self._trackers) or "the trackers"
                self._warnings.put(f"not all runs were written in time ({names}): {_AGAIN}")
                return

    def _run(self) -> None:
        for name in self._names:
            self._guarded(name, partial(self._open, name))
        while (read := self._waiting.get()) is not None:
            run = self._read(read)
            if run:
                for name in list(self._trackers):
                    self._guarded(name, partial(self._write, name, run))
            self._moved = time.monotonic()
        for name, tracker in list(self._trackers.items()):
            if name in self._used:
                self._guarded(name, tracker.close)

    def _guarded(self, name: TrackerName, act: Callable[[], None]) -> None:
        """Do something with a tracker; whatever it raises ends its part in this sweep."""
        try:
            act()
        except (Exception, SystemExit) as error:
            self._trackers.pop(name, None)
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            self._warnings.put(f"{name} gets no more runs of this sweep ({reason}): {_AGAIN}")

    def _open(self, name: TrackerName) -> None:
        self._trackers[name] = open_tracker(name, self._store)

    def _read(self, read: Read) -> CellRun | None:
        try:
            return read()
        except Exception as error:
            self._warnings.put(f"no tracker gets a run of a cell that cannot be read ({error})")
            return None

    def _write(self, name: TrackerName, run: CellRun) -> None:
        tracker, known = self._trackers[name], self._tracked.get(name, TrackedRuns())
        if known.runs.get(run.key) == run.digest and tracker.holds(run):
            return
        self._used.add(name)
        tracker.log_cell(run)
        self._tracked[name] = TrackedRuns(tracker.url, {**known.runs, run.key: run.digest})
        write_tracked(self._store, self._tracked)


_AGAIN = "the sweep itself is not affected, and the same command writes the runs that are missing"
