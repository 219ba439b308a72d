"""The steps of a finished cell, from its train.csv. Its losses are kept: several parts of a report compare them."""

from pathlib import Path

import numpy as np
import pandas as pd

from qtablate.statistics.estimate import Floats
from qtablate.store import Store

_Version = tuple[Path, int, int]
_KEPT = 4096
"""Cells whose losses are kept in memory: 5 kB each for 600 steps."""
_LOSSES: dict[_Version, Floats] = {}


def read_steps(store: Store, key: str) -> pd.DataFrame:
    """Return the steps of a cell, a row each."""
    path = store.cell_file(key, "train.csv")
    version = _version(path)
    steps = pd.read_csv(path)
    _keep(version, steps)
    return steps


def read_losses(store: Store, key: str) -> Floats:
    """Return the training losses of a cell, one a step. A file that has not changed is read once."""
    path = store.cell_file(key, "train.csv")
    version = _version(path)
    return _LOSSES[version] if version in _LOSSES else _keep(version, pd.read_csv(path, usecols=["loss"]))


def _keep(version: _Version, steps: pd.DataFrame) -> Floats:
    while len(_LOSSES) >= _KEPT:
        del _LOSSES[next(iter(_LOSSES))]
    losses = _LOSSES[version] = np.array(steps["loss"], np.float64)  # a copy: what the frame holds may go
    return losses


def _version(path: Path) -> _Version:
    """Tell a file from what it was before its last change."""
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size
