"""Counting on for the claims that a process holds, and watching whether others count."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from qtablate.claims.claim import Claim
from qtablate.claims.holder import STALE_AFTER, Holder

BEAT_SECONDS = 5.0
"""Between two counts of a claim."""


class Watch:
    """What an observer has seen of claims: which counts stand still, by its own clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[str, int, float]] = {}
        """Token, count, and when that was first seen, by key."""

    def stale(self, holder: Holder) -> bool:
        """Whether the count has stood still for STALE_AFTER seconds, as far as this observer has seen."""
        token, beat, since = self._seen.get(holder.key, ("", -1, 0.0))
        if (token, beat) != (holder.token, holder.beat):
            self._seen[holder.key] = (holder.token, holder.beat, self._clock())
            return False
        return self._clock() - since >= STALE_AFTER


class Heart:
    """Counts on for every claim that this process holds, in a thread."""

    def __init__(self) -> None:
        self._claims: dict[str, Claim] = {}
        self._lock, self._end = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @contextmanager
    def beating(self) -> Iterator["Heart"]:
        """Count until the block ends, then release what is still held."""
        self._thread.start()
        try:
            yield self
        finally:
            self._end.set()
            self._thread.join()
            for key in list(self._claims):
                self.release(key)

    def keep(self, claim: Claim) -> None:
        """Count on for a claim."""
        with self._lock:
            self._claims[claim.key] = claim

    def tell(self, key: str, **about: Any) -> None:
        """Change what others are told of a claim from the next beat on."""
        if claim := self._claims.get(key):
            claim.about = {**claim.about, **about}

    def release(self, key: str) -> None:
        """Give a claim up."""
        with self._lock:
            claim = self._claims.pop(key, None)
            if claim:
                claim.release()

    def _beat(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            with self._lock:
                for claim in self._claims.values():
                    claim.beat()
