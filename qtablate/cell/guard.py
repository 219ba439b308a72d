"""A cell that another process has taken over writes nothing any more."""

import time
from collections.abc import Callable

from qtablate.cell.jobs import CellJob
from qtablate.claims.heart import BEAT_SECONDS
from qtablate.errors import QtablateError
from qtablate.execute.claimed import LOST
from qtablate.execute.events import Notice, Progress
from qtablate.store import Store


class Guard:
    """Sees that no other process has taken the cell over, as happens to one that was suspended for minutes."""

    def __init__(self, job: CellJob, store: Store, report: Callable[[Progress | Notice], None]) -> None:
        self._claim = store.claims.acting_for(job.claim) if job.claim else None
        self._key, self._store, self._report, self._looked = job.cell.key, store, report, time.monotonic()

    def lost(self) -> bool:
        """Whether the cell is another process's, or was finished by one, as far as can be read now."""
        if self._claim is None:
            return False
        # the owner may have written its claim anew when it woke up and the other had finished and given up its own
        record = self._store.read_record(self._key)
        return (record is not None and record.status == "ok") or not self._claim.held()

    def seal(self) -> None:
        """Prove that the cell is this process's, before one of its files is written. Raises QtablateError where it is not."""
        if self._claim is not None and (self.lost() or not self._claim.seal()):
            raise QtablateError(LOST)

    def report(self, message: Progress | Notice) -> None:
        """Pass on what the cell reports, and look now and then. Raises QtablateError where the cell is lost."""
        if time.monotonic() - self._looked > BEAT_SECONDS:
            if self.lost():
                raise QtablateError(LOST)
            self._looked = time.monotonic()
        self._report(message)
