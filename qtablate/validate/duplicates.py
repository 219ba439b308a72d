"""Find media files with equal contents. Only files of equal size are read, so that checking a large folder is cheap."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from qtablate.video.frames import frame_files


def duplicate_groups(paths: Sequence[Path]) -> list[list[int]]:
    """Return groups of indices into `paths` with equal contents (SHA-256), each of at least two, in order of the first.

    Files that are empty or cannot be read belong to no group. Folders of frames are compared frame by frame.
    """
    by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, path in enumerate(paths):
        with suppress(OSError):
            by_size[tuple(file.stat().st_size for file in _files(path))].append(index)
    groups: dict[str, list[int]] = defaultdict(list)
    digests: dict[Path, str] = {}
    for size, indices in by_size.items():
        if len(indices) > 1 and any(size):
            for index in indices:
                path = paths[index]
                with suppress(OSError):
                    digests[path] = digests.get(path) or _digest(path)
                    groups[digests[path]].append(index)
    return sorted(group for group in groups.values() if len(group) > 1)


def _files(path: Path) -> list[Path]:
    """Return the file itself, or the frames of a folder."""
    return frame_files(path) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    """Hash a file's contents, or a folder's frames in their order regardless of their names."""
    digest = hashlib.sha256()
    for file in _files(path):
        with file.open("rb") as opened:
            digest.update(hashlib.file_digest(opened, "sha256").digest())
    return digest.hexdigest()
