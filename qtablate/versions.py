"""The installed versions of the packages that a result depends on."""

from collections.abc import Mapping
from functools import cache
from importlib import metadata

RECORDED = ("qtablate", "torch", "transformers", "tokenizers", "peft", "numpy", "pillow", "av")
"""Written into each cell's record."""
ARITHMETIC, MEDIA = ("torch", "transformers"), ("av", "pillow")
"""Packages whose version can change losses and scores; and, where clips are files, their pixels. qtablate's own part is the
record schema (grid.py)."""


def versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Return the installed version of each package, without the build that it was compiled for (`2.13.0`, not `2.13.0+cpu`)."""
    return {name: _installed(name).partition("+")[0] for name in names}


@cache
def _installed(name: str) -> str:
    return metadata.version(name)  # parses the whole description of a package, a hundredth of a second for all


def result_versions(media: bool) -> str:
    """Return the versions in a cell's key and in the names of cached features: `torch 2.13.0, transformers 5.23.0`.

    Args:
        media: whether clips are decoded from files.
    """
    return versions_text(versions(ARITHMETIC + MEDIA * media))


def versions_text(installed: Mapping[str, str]) -> str:
    """Format versions as `torch 2.13.0, transformers 5.23.0`, in the order of RECORDED."""
    return ", ".join(f"{name} {installed[name]}" for name in RECORDED if name in installed)
