"""What a running sweep tells its listeners."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from qtablate.execute.events import Event
from qtablate.sweep.plan import SweepPlan


@dataclass(frozen=True, slots=True)
class SweepEvent:
    """What happens while a sweep runs."""

    stage: Literal["features", "cells", "confirmation"]
    """`cells`: those of the grid; `confirmation`: those outside it that confirm its choice (--confirm)."""
    kind: Literal["begun", "job", "ended", "skipped", "notice"]
    """A stage begins, something happened to one of its jobs, a stage has ended. A stage without jobs does not begin; a
    confirmation that has nothing to confirm is `skipped`. A `notice` is a line for the user."""
    plan: SweepPlan
    """As it stands: which clips can be decoded is known only after the features, and decides which cells there are."""
    event: Event | None = None
    """Of a `job`: what happened to which."""
    jobs: dict[str, str] | None = None
    """Of a stage that begins: the names of its jobs, by key."""
    text: str = ""
    """Of a confirmation that begins or is skipped: what it compares, or why it compares nothing. Of a notice: the line."""


OnEvent = Callable[[SweepEvent], None]
