"""The folder of cached features: what is in it, and what is taken out when it grows too large."""

import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from qtablate.environment import number
from qtablate.video.isolated import RETRYABLE

LIMIT_GB = 50.0
_RECENT = 24 * 3600.0  # seconds: what was used since may be in use by another sweep


@dataclass(frozen=True, slots=True)
class Chunk:
    """One file of features and its note."""

    stem: str
    size: int
    used: float
    """When a sweep last asked for it: the note's own time."""


def default_cache() -> Path:
    """QTABLATE_CACHE, or the user's cache folder."""
    own = os.environ.get("QTABLATE_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "qtablate"


def limit_bytes() -> int:
    """QTABLATE_CACHE_GB, or the default. Raises QtablateError for what is no number of at least 0."""
    return int(number("QTABLATE_CACHE_GB", LIMIT_GB, "GB") * 1e9)


def chunks(folder: Path) -> list[Chunk]:
    """Whole and broken ones alike, the longest unused first."""
    out = []
    for path in folder.glob("*.safetensors"):
        note = path.with_suffix(".json")
        try:
            out.append(Chunk(path.stem, path.stat().st_size, (note if note.exists() else path).stat().st_mtime))
        except FileNotFoundError:  # another sweep has just removed it
            continue
    return sorted(out, key=lambda one: one.used)


def unsettled(folder: Path) -> list[Chunk]:
    """Those without some clip for a reason that another try may settle: it took too long."""
    out = []
    for chunk in chunks(folder):
        with suppress(OSError, ValueError, LookupError, TypeError):  # no note, or a torn one
            problems = json.loads((folder / f"{chunk.stem}.json").read_text())["problems"]
            out += [chunk] * any(kind in RETRYABLE for _, kind, _ in problems)
    return out


def prune(folder: Path, limit: int, keep: Collection[str] = (), now: float | None = None) -> list[Chunk]:
    """Remove the longest unused chunks until the folder holds at most `limit` bytes, but none of `keep` and none that was
    used within a day. Leftovers of killed processes go too. Returns what was removed."""
    now = time.time() if now is None else now
    for path in folder.glob(".*"):  # ours, and .tmp*, which safetensors writes before it renames
        with suppress(OSError):  # another sweep has just removed it, or the folder is read-only
            if now - path.stat().st_mtime > _RECENT:
                path.unlink(missing_ok=True)
    there = chunks(folder)
    total, removed = sum(one.size for one in there), []
    for one in there:
        if total <= limit:
            break
        if one.stem in keep or now - one.used < _RECENT:
            continue
        if remove(folder, one.stem):
            total -= one.size
            removed.append(one)
    return removed


def remove(folder: Path, stem: str) -> bool:
    """Remove a chunk, its note first: an array without one counts as missing. False where nothing may be removed."""
    try:
        (folder / f"{stem}.json").unlink(missing_ok=True)
        (folder / f"{stem}.safetensors").unlink(missing_ok=True)
    except OSError:
        return False
    return True
