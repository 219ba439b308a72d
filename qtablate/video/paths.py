"""Paths in data files: they may not leave their root, and what tells that a file has changed."""

import os
from pathlib import Path

from qtablate.errors import BadMedia

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


def inside(root: Path, name: str) -> Path:
    """`root / name`. Raises BadMedia when it lies outside of `root` (an absolute name, `..`, a link that leads out), is no
    path at all (a name too long, a NUL, half of a surrogate pair, links in a circle), or is a folder with such a frame."""
    path = root / name
    try:
        name.encode()
        home = root.resolve()
        if not path.resolve().is_relative_to(home):
            raise BadMedia("path leaves the root", name)
        if path.is_dir():
            _refuse_frames(home, path)
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadMedia("unusable path", f"{name!r:.60}: {error}") from None
    return path


def _refuse_frames(home: Path, folder: Path) -> None:
    """Raises BadMedia for a frame that is a link to nothing, in a circle or out of `home`, or is no file."""
    with os.scandir(folder) as entries:
        odd = sorted(one.name for one in entries if is_frame(Path(one.name)) and not one.is_file(follow_symlinks=False))
    for name in odd:
        shown = f"{folder.name}/{name}"
        try:
            frame = (folder / name).resolve(strict=True)
        except (OSError, RuntimeError):
            raise BadMedia("unusable frame", f"{shown} is a link to nothing, or in a circle") from None
        if not frame.is_relative_to(home):
            raise BadMedia("path leaves the root", f"{shown} is a link out of {home.name}")
        if not frame.is_file():
            raise BadMedia("not a file", f"{shown} is a folder, a pipe, a socket or a device")


def is_frame(path: Path) -> bool:
    """Whether a file in a folder of frames is one of them, by its name."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def state(path: Path) -> bytes:
    """What changes when a file does: its size and time, of a frame folder those of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return repr([_mark(file) for file in files]).encode()


def _mark(file: Path) -> tuple[str, int, int]:
    """Of what cannot be looked at, such as a link to nothing beside the frames: the error's number."""
    try:
        found = file.stat()
    except OSError as error:
        return file.name, -1, error.errno or 0
    return file.name, found.st_size, found.st_mtime_ns
