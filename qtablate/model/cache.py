"""The cache of visual features: where it is, what is in it, and what is removed when it grows too large."""

import json
import os
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from qtablate.environment import number
from qtablate.video.isolated import RETRYABLE

LIMIT_GB = 50.0
"""Default size limit of the cache."""
_RECENT = 24 * 3600.0  # seconds; a chunk used within it may be in use by another sweep


@dataclass(frozen=True, slots=True)
class Chunk:
    """One file of features."""

    stem: str
    size: int
    """Bytes."""
    used: float
    """When a sweep last used it, in seconds since the epoch: the time of its note."""


def default_cache() -> Path:
    """Return the folder that QTABLATE_CACHE names, or the operating system's cache folder for this user."""
    own = os.environ.get("QTABLATE_CACHE")
    return Path(own) if own else user_cache_path("qtablate", appauthor=False)


def limit_bytes() -> int:
    """Return the size limit in bytes: QTABLATE_CACHE_GB, or the default.

    Raises:
        QtablateError: QTABLATE_CACHE_GB is not a number of at least 0.
    """
    return int(number("QTABLATE_CACHE_GB", LIMIT_GB, "GB") * 1e9)


def chunks(folder: Path) -> list[Chunk]:
    """List all chunks, complete or damaged, the least recently used first."""
    out = []
    for path in folder.glob("*.safetensors"):
        note = path.with_suffix(".json")
        try:
            out.append(Chunk(path.stem, path.stat().st_size, (note if note.exists() else path).stat().st_mtime))
        except FileNotFoundError:  # another sweep has just removed it
            continue
    return sorted(out, key=lambda chunk: chunk.used)


def retryable_chunks(folder: Path) -> list[Chunk]:
    """List the chunks that lack a clip for a reason that another try may remove: decoding timed out."""
    out = []
    for chunk in chunks(folder):
        with suppress(OSError, ValueError, LookupError, TypeError):  # no note, or an incomplete one
            problems = json.loads((folder / f"{chunk.stem}.json").read_text())["problems"]
            out += [chunk] * any(kind in RETRYABLE for _, kind, _ in problems)
    return out


def prune(folder: Path, limit: int, keep: Collection[str] = (), now: float | None = None) -> list[Chunk]:
    """Remove the least recently used chunks until the folder holds at most `limit` bytes, and leftovers of killed processes.

    Args:
        limit: in bytes.
        keep: stems of chunks that stay; so do all that were used within a day.
        now: seconds since the epoch.

    Returns:
        The removed chunks.
    """
    now = time.time() if now is None else now
    for path in folder.glob(".*"):  # temporary files of ours, and .tmp* of safetensors
        with suppress(OSError):  # another sweep has just removed it, or the folder is read-only
            if now - path.stat().st_mtime > _RECENT:
                path.unlink(missing_ok=True)
    cached = chunks(folder)
    total, removed = sum(chunk.size for chunk in cached), []
    for chunk in cached:
        if total <= limit:
            break
        if chunk.stem in keep or now - chunk.used < _RECENT:
            continue
        if remove(folder, chunk.stem):
            total -= chunk.size
            removed.append(chunk)
    return removed


def remove(folder: Path, stem: str) -> bool:
    """Remove a chunk and tell whether that was possible; the note goes first, since an array without one counts as missing."""
    try:
        (folder / f"{stem}.json").unlink(missing_ok=True)
        (folder / f"{stem}.safetensors").unlink(missing_ok=True)
    except OSError:
        return False
    return True
