"""Which media files hold the same bytes. Only files of one size are read, so that a large folder costs little."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qtablate.video.frames import frame_files


def duplicate_groups(paths: Sequence[Path]) -> list[list[int]]:
    """Groups of indices into `paths` with equal contents (sha256), each of at least two, in the order of their first.
    What is empty or cannot be read is like nothing."""
    sizes: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        with suppress(OSError):
            sizes[tuple(file.stat().st_size for file in _files(path))].append(index)
    groups: dict[str, list[int]] = defaultdict(list)
    known: dict[Path, str] = {}
    for size, alike in sizes.items():
        if len(alike) > 1 and any(size):
            for index in alike:
                path = paths[index]
                with suppress(OSError):
                    known[path] = known.get(path) or _digest(path)
                    groups[known[path]].append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def _files(path: Path) -> list[Path]:
    return frame_files(path) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    """Of a file's contents; of a folder's frames in their order, whatever their names."""
    digest = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
