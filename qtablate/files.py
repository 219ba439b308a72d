"""Atomic writing: a file is whole or absent, even after a power cut."""

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_LEFTOVER = re.compile(r"\..+\.(?:json|csv|md|html|png|svg|pt)\.(\d+)-([0-9a-f]{8})")
"""Names that `temporary_path` gives to the files of a results folder while they are written."""
_OLD = 24 * 3600.0  # seconds after which another machine's is nobody's


@cache
def _machine() -> str:
    """Eight hex digits of this machine: a number of a process means something on one machine alone."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


def temporary_path(path: Path) -> Path:
    """A name next to a file, for what this process writes to put it in its place."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_machine()}")


@contextmanager
def atomic_path(path: Path, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary path next to `path`; what is written there replaces `path` when the block ends without an error.

    Args:
        path: the file to replace; its folder is created.
        durable: sync file and folder to the disk before the block is left. False for large files that can be computed again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_path(path)
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
    """Remove the temporary files that killed processes have left directly in a folder; those of running ones stay, and those
    of other machines for a day, since it cannot be known from here whether they run."""
    for path in folder.glob(".*"):
        if (leftover := _LEFTOVER.fullmatch(path.name)) and _is_abandoned(path, int(leftover[1]), leftover[2]):
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _is_abandoned(path: Path, process: int, machine: str) -> bool:
    if machine == _machine():
        return not _runs(process)
    try:
        return time.time() - path.stat().st_mtime > _OLD
    except OSError:
        return False


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True
