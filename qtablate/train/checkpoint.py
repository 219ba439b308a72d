"""Checkpoints: the state of an unfinished run on disk, from which a killed cell, or one whose evaluation failed, goes on.

A checkpoint is written between two windows and when training has ended. The file is torch.save's zip archive, whose entries
carry CRC-32 checksums; torch does not verify them, this module does.
"""

import copy
import dataclasses
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from qtablate.files import atomic_path
from qtablate.train.loop import Step, Training

_READ_ERRORS = (
    IsADirectoryError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)


class UnusableCheckpoint(Exception):
    """A checkpoint that is damaged or belongs to another run."""


def save(path: Path, training: Training, steps: Sequence[Step]) -> None:
    """Write the run's state and the steps that it has taken.

    Raises:
        OSError: there is no room.
    """
    try:
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            torch.save({"training": training.state(), "steps": [dataclasses.asdict(step) for step in steps]}, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch's writer hides the system's error
            raise error.__context__ from None
        raise


def resume(path: Path, training: Training) -> list[Step]:
    """Bring a new run to the state of the file, and return the steps taken until then; none where there is no file.

    Raises:
        UnusableCheckpoint: the file is damaged or another run's. It is removed, and the run starts at its beginning.
    """
    if not path.exists():
        return []
    before = copy.deepcopy(training.state())
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise UnusableCheckpoint(f"the checksum of its part {damaged} differs")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        steps = [Step(**row) for row in saved["steps"]]
        training.restore(saved["training"])
    except torch.OutOfMemoryError:  # a RuntimeError that says nothing about the file
        raise
    except (UnusableCheckpoint, *_READ_ERRORS) as error:
        remove(path)
        training.restore(before)
        raise UnusableCheckpoint(str(error).split("\n")[0] or type(error).__name__) from None
    return steps


def remove(path: Path) -> None:
    """Remove a checkpoint, or whatever stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
