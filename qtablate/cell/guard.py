"""A cell that another process has taken over writes nothing any more."""

import time
from collections.abc import Callable

from qtablate.cell.jobs import CellJob
from qtablate.claims.claim import is_own
from qtablate.claims.heart import BEAT_SECONDS
from qtablate.errors import QtablateError
from qtablate.execute.claimed import LOST
from qtablate.execute.events import Notice, Progress
from qtablate.store import Store


class Guard:
    """Sees that no other process has taken the cell over, as happens to one that was suspended for minutes."""

    def __init__(self, job: CellJob, store: Store, report: Callable[[Progress | Notice], None]) -> None:
        self._job, self._store, self._report, self._looked = job, store, report, time.monotonic()

    def lost(self) -> bool:
        """Whether the cell is another process's, or was finished by one."""
        if not self._job.claim:
            return False
        holder = self._store.claims.holder(self._job.cell.key)
        return self._store.finished(self._job.cell.key) if holder is None else not is_own(holder, self._job.claim)

    def check(self) -> None:
        """Raise QtablateError where the cell is lost."""
        if self.lost():
            raise QtablateError(LOST)

    def report(self, message: Progress | Notice) -> None:
        """Pass on what the cell reports, and look now and then."""
        if time.monotonic() - self._looked > BEAT_SECONDS:
            self.check()
            self._looked = time.monotonic()
        self._report(message)
