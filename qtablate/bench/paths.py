"""Paths in data files: they may not leave their root."""

from pathlib import Path


def inside(root: Path, name: str) -> Path | None:
    """`root / name`, or None when that lies outside of `root` (an absolute name, `..`, or a link that leads out)."""
    path = (root / name).resolve()
    return root / name if path.is_relative_to(root.resolve()) else None
