"""Writing so that a file is whole or absent, also behind a power cut."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.(?:json|csv|md|html|png|pt)\.(\d+)")
"""What `aside` calls the files of a results folder while they are written."""


@contextmanager
def aside(path: Path, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it takes `path`'s place only when the block ends without an error.

    `durable`: what was written is on the disk before it takes the place, and the new name before the block is left (fsync of
    file and folder). False for what is large and can be made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        os.replace(temporary, path)
        if durable:
            _sync(path.parent)
    finally:
        with suppress(OSError):  # the folder may have become read-only: the block's own error says so
            temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file's content, whole or not at all. Raises OSError."""
    with aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left right in a folder; those of living ones stay."""
    for path in folder.glob(".*"):
        found = _LEFTOVER.fullmatch(path.name)
        if found and not _runs(int(found[1])):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
