"""Experiment trackers: a run per cell in TensorBoard, Weights & Biases or MLflow, from the files that cells leave.

A new tracker is one file with a class like those here (protocol.py), its name in TrackerName (config.py) and its row here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from qtablate.errors import ConfigError
from qtablate.run_config import TrackerName
from qtablate.store import Store
from qtablate.track.protocol import Tracker


@dataclass(frozen=True, slots=True)
class Kind:
    """How a tracker is made."""

    place: str
    """`module:class`; the class takes the results folder. Nothing is imported before a sweep asks for it."""
    package: str
    """What it needs installed; the extra of this package that installs it has the tracker's name."""


TRACKERS: dict[TrackerName, Kind] = {
    "tensorboard": Kind("qtablate.track.tensorboard:TensorBoardTracker", "tensorboard"),
    "wandb": Kind("qtablate.track.wandb:WandbTracker", "wandb"),
    "mlflow": Kind("qtablate.track.mlflow:MlflowTracker", "mlflow"),
}


def validate_installed(names: Sequence[TrackerName]) -> None:
    """Refuse trackers whose package is not there. Raises ConfigError that names what to install."""
    for name in names:
        if find_spec(TRACKERS[name].package) is None:
            raise ConfigError(
                f"--track {name}: its package is not installed; pip install 'qtablate[{name}]', or leave {name} out"
            )


def open_tracker(name: TrackerName, store: Store) -> Tracker:
    """Return the tracker of this name for a results folder. It imports its package with the first run that it writes."""
    module, _, kind = TRACKERS[name].place.partition(":")
    tracker: Tracker = getattr(import_module(module), kind)(store)
    return tracker
