"""The versions of the packages that a result rests on."""

from collections.abc import Mapping
from importlib import metadata

RECORDED = ("qtablate", "torch", "transformers", "tokenizers", "peft", "numpy", "pillow", "av")
"""Written into each cell's record."""
ARITHMETIC, MEDIA = ("torch", "transformers"), ("av", "pillow")
"""What a version of can change losses and scores; and, where clips are files, their pixels. qtablate's own part is the record
schema (grid.py)."""


def versions(names: tuple[str, ...] = RECORDED) -> dict[str, str]:
    """Installed version of each package, without the build that it was compiled for (`2.13.0`, not `2.13.0+cpu`)."""
    return {name: metadata.version(name).partition("+")[0] for name in names}


def deciding(media: bool) -> str:
    """The versions that are part of a cell's key and of its cached features, such as `torch 2.13.0, transformers 5.23.0`.

    `media`: whether clips are decoded from files.
    """
    return in_words(versions(ARITHMETIC + MEDIA * media))


def in_words(found: Mapping[str, str]) -> str:
    """`torch 2.13.0, transformers 5.23.0`, in the order of RECORDED."""
    return ", ".join(f"{name} {found[name]}" for name in RECORDED if name in found)
