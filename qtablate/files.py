"""Atomic writing: a file is whole or absent, even after a power cut."""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.(?:json|csv|md|html|png|svg|pt)\.(\d+)")
"""Names that `atomic_path` gives to the files of a results folder while they are written."""


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; what is written there replaces `path` when the block ends without an error.

    Args:
        path: the file to replace; its folder is created.
        durable: sync file and folder to the disk before the block is left. False for large files that can be computed again.
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
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file's content, whole or not at all. Raises OSError."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


Signature = tuple[int, ...]
_SETTLED_SECONDS = 5
"""After which another change cannot leave the same times: they have the resolution of a clock's ticks, of seconds at worst."""


def signature(path: Path) -> Signature | None:
    """Return what differs after every change of a file, so that one whose content is known need not be read again.

    Taken before reading, it holds for what is read, or for what that replaced. Raises OSError.

    Returns:
        Device, inode, size and times of change; None where the last change is too recent to tell it from another one.
    """
    stat = path.stat()
    if time.time() - max(stat.st_mtime, stat.st_ctime) < _SETTLED_SECONDS:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left directly in a folder; those of running ones stay."""
    for path in folder.glob(".*"):
        leftover = _LEFTOVER.fullmatch(path.name)
        if leftover and not _runs(int(leftover[1])):
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
