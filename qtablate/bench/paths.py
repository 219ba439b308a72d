"""Paths in data files: they may not leave their root, and what tells that a file has changed."""

from pathlib import Path

from qtablate.errors import BadMedia


def inside(root: Path, name: str) -> Path:
    """`root / name`. Raises BadMedia when it lies outside of `root` (an absolute name, `..`, a link that leads out) or is
    no path at all (a name too long, a NUL, links in a circle)."""
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()):
            raise BadMedia("path leaves the root", name)
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise BadMedia("unusable path", f"{name!r:.60}: {error}") from None
    return path


def state(path: Path) -> bytes:
    """What changes when a file does: its size and time, of a frame folder those of its files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]).encode()
