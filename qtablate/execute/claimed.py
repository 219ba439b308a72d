"""Run the cells that no other process runs, and wait for those that another one does.

The process that runs this holds the claims of the cells that it has started (qtablate/claims). It may be a sweep, or a job that
a scheduler has started for one: so a sweep on a laptop and a cluster's jobs can work off one folder.
"""

import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from qtablate.claims.claim import Claim
from qtablate.claims.heart import Heart, Watch
from qtablate.claims.holder import Holder
from qtablate.claims.owner import Owner
from qtablate.execute.events import Event
from qtablate.records import of_cell
from qtablate.store import Store

LOST = "another process has taken this cell over"
"""Begins the error of a cell whose claim was lost while it ran."""
_LOOK_SECONDS = 1.0  # between two looks at the cells that others run

Run = Callable[[Iterable[tuple[str, Any]]], Generator[Event, None, None]]


def run_claimed(
    jobs: Sequence[tuple[str, Any]],
    store: Store,
    run: Run,
    owner: Owner,
    look_seconds: float = _LOOK_SECONDS,
    may_start: Callable[[], bool] = lambda: True,
) -> Generator[Event, None, None]:
    """Run jobs and yield their events; each has `done` or `failed` as its last one, whoever has run it.

    A job that another process runs is a `held` event, once, and is tried again when its claim is given up or goes stale.

    Args:
        jobs: (key of a cell, its job), which has the fields `cell` and `claim`.
        store: the folder of the cells.
        run: runs jobs, each when it is asked for.
        owner: this process.
        look_seconds: between two looks at what others run.
        may_start: whether one more job may be started. Those that are not have no event.
    """
    with Heart().beating() as heart:
        work = _Work(dict(jobs), store, owner, heart)
        while work.open and may_start():
            with closing(run(work.claim(may_start))) as events:
                for event in events:
                    yield from work.take_found()
                    yield from work.settle(event)
            yield from work.take_found()
            while work.open and not work.any_free() and may_start():
                time.sleep(look_seconds)
                yield from work.look()


class _Work:
    """The jobs that are not over."""

    def __init__(self, jobs: dict[str, Any], store: Store, owner: Owner, heart: Heart) -> None:
        self.open = jobs
        self._store, self._owner, self._heart, self._watch = store, owner, heart, Watch()
        self._held: dict[str, Holder] = {}
        """What others run, as it was last seen."""
        self._stale: dict[str, Holder] = {}
        self._found: list[Event] = []
        """Events of jobs that were found to be over, or held, when they were asked for."""

    def claim(self, may_start: Callable[[], bool]) -> Iterator[tuple[str, Any]]:
        """Claim one job after the other, each when it is asked for, as long as one may be started."""
        for key, job in list(self.open.items()):
            if not may_start():
                return
            try:
                taken = self._store.claims.take(key, self._owner, stale=self._stale.get(key))
            except OSError as error:
                raise self._store.unwritable(self._store.claims.folder, error) from None
            if isinstance(taken, Holder):
                self._note_held(taken)
                continue
            if self._store.finished(key):  # by whoever held the claim before
                taken.release()
                self._end(Event(key, "done"))
                continue
            self._held.pop(key, None)
            self._stale.pop(key, None)
            yield key, self._started(taken, job)

    def _started(self, claim: Claim, job: Any) -> Any:
        self._store.discard_damaged(claim.key)
        self._heart.keep(claim)
        return dataclasses.replace(job, claim=claim.held_as)

    def _note_held(self, holder: Holder) -> None:
        if holder.key not in self._held:
            self._found.append(Event(holder.key, "held", text=f"run by {holder.owner or 'another process'}"))
        self._held[holder.key] = holder

    def _end(self, event: Event) -> None:
        self.open.pop(event.key, None)
        self._held.pop(event.key, None)
        self._found.append(event)

    def take_found(self) -> Iterator[Event]:
        """Yield the events of jobs that were found to be over, or held."""
        found, self._found = self._found, []
        yield from found

    def settle(self, event: Event) -> Iterator[Event]:
        """Take an event of a job that runs here, and yield what it comes to."""
        if event.kind == "progress" and event.progress:
            self._heart.tell(event.key, progress=dataclasses.asdict(event.progress))
        if event.kind not in ("done", "failed"):
            yield event
            return
        lost = event.kind == "failed" and LOST in event.error
        if event.kind == "failed" and not lost:
            event = self._record_failure(event)
        self._heart.release(event.key)
        if not lost:  # else it is still open, and another process runs it
            self.open.pop(event.key, None)
            yield event

    def _record_failure(self, event: Event) -> Event:
        """Write that a cell has failed where it could not do so itself. One that was ended, or died, after its last word to the
        disk is done."""
        if self._store.finished(event.key):
            return Event(event.key, "done")
        record = self._store.read_record(event.key)
        if record is None or record.status != "failed":
            cell = self.open[event.key].cell
            self._store.write_record(of_cell(cell, "failed", error=event.error, traceback=event.traceback))
        elif event.out_of_memory:  # the event says, too, why it is not tried again
            self._store.write_record(dataclasses.replace(record, error=event.error))
        return event

    def any_free(self) -> bool:
        """Whether a job can be claimed."""
        return any(key not in self._held or key in self._stale for key in self.open)

    def look(self) -> Iterator[Event]:
        """See what has become of the jobs that others run."""
        for key in list(self._held):
            holder = self._store.claims.holder(key)
            if holder is None:
                self._held.pop(key)
                state = self._store.state(key)
                if state.status == "ok":
                    self._end(Event(key, "done"))
                elif state.status == "failed" and state.record:
                    self._end(Event(key, "failed", error=state.record.error, traceback=state.record.traceback))
            elif self._watch.stale(holder) or (holder.owner and holder.owner.ended):
                self._stale[key] = holder
            else:
                self._held[key] = holder
        yield from self.take_found()
