"""trackers.json: which cells experiment trackers have a run of, and how the report says where these runs are."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from qtablate.store import Store

FILE = "trackers.json"


@dataclass(frozen=True, slots=True)
class TrackedRuns:
    """What one tracker has."""

    url: str = ""
    """Where the runs are seen; empty where they are files in the results folder."""
    runs: Mapping[str, str] = field(default_factory=dict)
    """A digest of what was written of each cell, by key."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the runs of one tracker are."""

    tracker: str
    count: int
    """Cells that it has a run of."""
    how: str
    """The command that shows them, or the URL."""

    @property
    def link(self) -> str:
        """The URL where it can be followed: of a web page; empty elsewhere."""
        try:
            parts = urlsplit(self.how)
        except ValueError:
            return ""
        return self.how if parts.scheme in ("http", "https") and parts.netloc else ""


_COMMANDS = {
    "tensorboard": "tensorboard --logdir {folder}/tensorboard",
    "wandb": "wandb sync {folder}/wandb/offline-run-*",
    "mlflow": "mlflow ui --backend-store-uri sqlite:///{folder}/mlflow.db",
}
"""How runs in the results folder are shown, by tracker. Made here and not read: the file may be someone else's."""


def read_tracked(store: Store) -> dict[str, TrackedRuns]:
    """Return what each tracker has, by its name; nothing where the file is not there or is none of ours."""
    try:
        content = json.loads(store.table_file(FILE).read_text())
        return {
            str(name): TrackedRuns(str(one["url"]), {str(key): str(digest) for key, digest in one["runs"].items()})
            for name, one in content.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def write_tracked(store: Store, tracked: Mapping[str, TrackedRuns]) -> None:
    """Replace trackers.json. Raises StoreError where it cannot be written."""
    content = {name: asdict(one) for name, one in tracked.items()}
    store.write_file(store.table_file(FILE), json.dumps(content, indent=1, sort_keys=True) + "\n")


def places(store: Store) -> list[Place]:
    """Return where the runs of this folder's cells are, tracker by tracker."""
    found = []
    for name, one in read_tracked(store).items():
        if name in _COMMANDS and one.runs:
            command = _COMMANDS[name].format(folder=shlex.quote(str(store.root)))
            found.append(Place(name, len(one.runs), _printable(one.url) or command))
    return found


def _printable(url: str) -> str:
    """Return an address without what could steer a terminal."""
    return "".join(letter for letter in url if letter.isprintable())
