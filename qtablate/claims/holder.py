"""A claim as others see it: reading its files."""

import glob
import json
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qtablate.claims.owner import Owner

STALE_AFTER = 120.0
"""Seconds without a new count after which a claim may be taken over. Well above the 60 seconds for which NFS clients may go on
showing an old file by default (acregmax in nfs(5))."""
_NAME = re.compile(r"(?P<key>.+)\.(?P<generation>\d+)\.json")


@dataclass(frozen=True, slots=True)
class Holder:
    """A claim as others see it."""

    key: str
    generation: int
    token: str = ""
    """Of the claim, unlike any other; empty where the file cannot be read now."""
    beat: int = 0
    """Grows as long as the owner runs."""
    owner: Owner | None = None
    about: dict[str, Any] = field(default_factory=dict)
    """What the owner says of itself or of its work."""
    age: float = 0.0
    """Seconds since the file changed, by this machine's clock: to be shown, not to be relied on."""

    @property
    def live(self) -> bool:
        """Whether the owner seems to run: for displays, which cannot watch for long."""
        return self.age < STALE_AFTER and not (self.owner and self.owner.ended)


def highest(folder: Path, key: str) -> Holder | None:
    """Return the claim of a key that holds; None where there is none."""
    for generation, path in sorted(files_of(folder, key), reverse=True):
        if holder := read(path, key, generation):
            return holder
    return None


def all_holders(folder: Path) -> dict[str, Holder]:
    """Return every holder of a folder by key."""
    newest: dict[str, tuple[int, Path]] = {}
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for path in paths:
        if name := _NAME.fullmatch(path.name):
            newest[name["key"]] = max(newest.get(name["key"], (-1, path)), (int(name["generation"]), path))
    found = {key: read(path, key, generation) for key, (generation, path) in newest.items()}
    return {key: holder for key, holder in sorted(found.items()) if holder}


def files_of(folder: Path, key: str) -> list[tuple[int, Path]]:
    """Return the claims of a key, by generation."""
    names = ((_NAME.fullmatch(path.name), path) for path in folder.glob(f"{glob.escape(key)}.*.json"))
    return [(int(name["generation"]), path) for name, path in names if name and name["key"] == key]


def read(path: Path, key: str, generation: int) -> Holder | None:
    """Read a claim; None where it is gone. One that cannot be read is somebody's."""
    try:
        age = time.time() - path.stat().st_mtime
        content = json.loads(path.read_text())
        return Holder(key, generation, content["token"], content["beat"], Owner(**content["owner"]), content["about"], age)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError):
        return Holder(key, generation)
