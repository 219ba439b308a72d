"""Follow cells that run elsewhere by their claims: an event when one begins, and whenever its progress has changed."""

from collections.abc import Iterator
from typing import Any

from qtablate.claims.claim import Claims
from qtablate.execute.events import Event, Progress


class Follower:
    """What was last seen of each cell that runs elsewhere."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._seen: dict[str, dict[str, Any] | None] = {}
        """Progress of each cell that has begun, by key."""

    def look(self, key: str) -> Iterator[Event]:
        """Yield what is new of a cell that was submitted."""
        holder = self._claims.holder(key)
        if holder is None:
            return
        if key not in self._seen:
            self._seen[key] = None
            yield Event(key, "started")
        progress = holder.about.get("progress")
        if progress and progress != self._seen[key]:
            self._seen[key] = progress
            yield Event(key, "progress", Progress(**progress))

    def running(self, key: str) -> bool:
        """Whether a cell has begun, as far as was seen."""
        return key in self._seen

    def forget(self, key: str) -> None:
        """Take a cell for one that has not begun: it waits in a queue again."""
        self._seen.pop(key, None)
