"""Tell experiment trackers of the cells of a running sweep (--track): a listener that stands before the user's own."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from qtablate.grid import Cell
from qtablate.sweep.events import OnEvent, SweepEvent
from qtablate.sweep.plan import SweepPlan
from qtablate.track.cells import Naming, read_cell_run
from qtablate.track.writer import RunWriter

_PATIENCE, _STOPPED = 60.0, 5.0
"""Seconds that the end of a sweep waits for a tracker that does not get on, and that a stopped sweep waits for all of them."""
_MANY = 10
"""Cells whose runs take some time to write: more are announced."""


@contextmanager
def tracked(plan: SweepPlan, on_event: OnEvent | None) -> Iterator[OnEvent]:
    """Yield what is to be called with the events of a sweep: the listener, which may be missing, and the trackers.

    Trackers get the cells that had finished before, too. When the block ends, what they have not written yet is waited for.
    """
    listen = on_event or _log
    if not plan.config.run.track:
        yield listen
        return
    listener = TrackerListener(plan, listen)
    try:
        yield listener
    except BaseException:
        listener.close(_STOPPED, _STOPPED)
        raise
    listener.close(_PATIENCE)


class TrackerListener:
    """Passes every event on, and gives trackers the cells that finish or fail."""

    def __init__(self, plan: SweepPlan, then: OnEvent) -> None:
        self._plan, self._then = plan, then
        self._writer = RunWriter(plan.store, plan.config.run.track)
        self._put: set[str] = set()
        self._name_cells(plan)
        self._put_finished()

    def __call__(self, event: SweepEvent) -> None:
        """Take an event of the sweep."""
        self._then(event)
        if event.plan is not self._plan:
            self._name_cells(event.plan)
        if event.stage != "features" and event.kind == "begun":
            self._put_finished()
        elif event.stage != "features" and event.event and event.event.kind in ("done", "failed"):
            self._put_cells([self._cells[event.event.key]])
        self._warn()

    def close(self, patience: float, most: float = float("inf")) -> None:
        """Wait for the trackers; arguments as of `RunWriter.close`."""
        waiting = self._writer.waiting()
        if waiting > _MANY and most > patience:
            names = ", ".join(self._plan.config.run.track)
            self._notify(f"Writing the runs of {waiting} cells: {names}.")
        self._writer.close(patience, most)
        self._warn()

    def _name_cells(self, plan: SweepPlan) -> None:
        self._plan = plan
        cells = [*plan.cells, *plan.confirmation.cells]
        self._cells = {cell.key: cell for cell in cells}
        self._naming = Naming.of(cells, plan.config.data)

    def _put_finished(self) -> None:
        """Give the cells that are finished already, each once; those that failed run again."""
        store = self._plan.store
        new = [cell for key, cell in self._cells.items() if key not in self._put and _is_ok(store.read_record(key))]
        self._put_cells(new)

    def _put_cells(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            self._put.add(cell.key)
            self._writer.put(partial(read_cell_run, self._plan.store, cell, self._naming))

    def _warn(self) -> None:
        for text in self._writer.warnings():
            self._notify(f"Warning: {text}.")

    def _notify(self, text: str) -> None:
        self._then(SweepEvent("cells", "notice", self._plan, text=text))


def _is_ok(record: object) -> bool:
    return getattr(record, "status", "") == "ok"


def _log(event: SweepEvent) -> None:
    """Stand for a listener: a script that listens to nothing is warned by its log."""
    if event.kind == "notice":
        logging.getLogger("qtablate").warning(event.text)
