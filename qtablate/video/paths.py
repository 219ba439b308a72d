"""Resolve paths from data files inside their root, and detect changed files."""

import os
from pathlib import Path

from qtablate.errors import BadMedia

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def resolve_inside(root: Path, name: str) -> Path:
    """Return `root / name` after checking that it cannot lead out of `root`.

    Raises:
        BadMedia: the path lies outside of `root` (an absolute name, `..`, a link that leads out), is not a valid path (a name
            too long, a NUL, an unpaired surrogate, a cycle of links), or is a folder with such a frame.
    """
    path = root / name
    try:
        name.encode()
        resolved_root = root.resolve()
        if not path.resolve().is_relative_to(resolved_root):
            raise BadMedia("path leaves the root", name)
        if path.is_dir():
            _validate_frames(resolved_root, path)
        path.exists()  # raises for a name that the file system cannot hold
    except (OSError, ValueError, RuntimeError) as error:
        raise BadMedia("unusable path", f"{name!r:.60}: {error}") from None
    return path


def _validate_frames(root: Path, folder: Path) -> None:
    """Raise BadMedia for a frame that is a broken or cyclic link, a link out of `root`, or not a regular file."""
    with os.scandir(folder) as entries:
        special = sorted(
            entry.name for entry in entries if is_frame(Path(entry.name)) and not entry.is_file(follow_symlinks=False)
        )
    for name in special:
        label = f"{folder.name}/{name}"
        try:
            frame = (folder / name).resolve(strict=True)
        except (OSError, RuntimeError):
            raise BadMedia("unusable frame", f"{label} is a broken link or a cycle of links") from None
        if not frame.is_relative_to(root):
            raise BadMedia("path leaves the root", f"{label} is a link out of {root.name}")
        if not frame.is_file():
            raise BadMedia("not a file", f"{label} is a folder, a pipe, a socket or a device")


def is_frame(path: Path) -> bool:
    """Return whether a file has the name of an image; in a folder of frames, such files are its frames."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def file_state(path: Path) -> bytes:
    """Return bytes that change when a file does: its size and modification time, of a folder those of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return repr([_stat(file) for file in files]).encode()


def _stat(file: Path) -> tuple[str, int, int]:
    """Return (name, size, modification time in ns); (name, -1, error number) for a file without a stat, as a broken link."""
    try:
        stat = file.stat()
    except OSError as error:
        return file.name, -1, error.errno or 0
    return file.name, stat.st_size, stat.st_mtime_ns
