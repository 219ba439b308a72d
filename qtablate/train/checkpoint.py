"""The state of an unfinished run on disk, written between two windows and when training has ended, so that a cell that is
killed, or whose evaluation fails, goes on where it was.

The file is torch.save's zip archive, whose entries carry CRC-32 checksums; torch does not look at them, this module does.
"""

import copy
import dataclasses
import pickle
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import torch

from qtablate.files import aside
from qtablate.train.loop import Step, Training

_UNUSABLE = (
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


class Unusable(Exception):
    """A checkpoint that cannot be gone on from."""


def save(path: Path, training: Training, steps: Sequence[Step]) -> None:
    """Write the run's state beside the steps it has taken. Raises OSError where there is no room."""
    try:
        with aside(path) as temporary, temporary.open("wb") as file:
            torch.save({"training": training.state(), "steps": [dataclasses.asdict(step) for step in steps]}, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch's writer hides what the system said
            raise error.__context__ from None
        raise


def resume(path: Path, training: Training) -> list[Step]:
    """Bring a run that has just been made to where the file was written, and give the steps that it had taken; none where there
    is no file.

    Raises:
        Unusable: the file is damaged or another run's. It is removed, and the run is as it was: it starts at its beginning.
    """
    if not path.exists():
        return []
    before = copy.deepcopy(training.state())
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise Unusable(f"the checksum of its part {damaged} differs")
        found = torch.load(path, map_location="cpu", weights_only=True)
        steps = [Step(**row) for row in found["steps"]]
        training.restore(found["training"])
    except torch.OutOfMemoryError:  # which is a RuntimeError, and says nothing about the file
        raise
    except (Unusable, *_UNUSABLE) as error:
        remove(path)
        training.restore(before)
        raise Unusable(str(error).split("\n")[0] or type(error).__name__) from None
    return steps


def remove(path: Path) -> None:
    """Remove a checkpoint, or whatever stands in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
