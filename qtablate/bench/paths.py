"""Paths in data files: they may not leave their root."""

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
