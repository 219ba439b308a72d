"""The state of an unfinished run on disk, written between two windows, so that a cell that is killed goes on where it was."""

import dataclasses
import pickle
from collections.abc import Sequence
from pathlib import Path

import torch

from qtablate.files import aside
from qtablate.train.loop import Step, Training


def save(path: Path, training: Training, steps: Sequence[Step]) -> None:
    with aside(path) as temporary:
        torch.save({"training": training.state(), "steps": [dataclasses.asdict(step) for step in steps]}, temporary)


def resume(path: Path, training: Training) -> list[Step]:
    """Bring a run that has just been made to where the file was written, and give the steps that it had taken. Where there is
    no file, or none that can be read, nothing is done: the run starts at its beginning."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        steps = [Step(**row) for row in found["steps"]]
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError):
        return []
    training.restore(found["training"])
    return steps
