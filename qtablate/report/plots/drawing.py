"""A plot that is ready to be drawn, and the fingerprint of what it shows."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from qtablate.report.plots.style import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

VERSION = 1
"""Of the code of all plots: a change of how they look raises it, and they are drawn again."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """A plot with its data at hand. Nothing is drawn, and matplotlib is not imported, before `figure` is called."""

    name: str
    """Of its files, without the ending."""
    title: str
    caption: str
    fingerprint: str
    """Of the data that it shows (`fingerprint`)."""
    draw: Callable[[], "Figure"]

    @property
    def digest(self) -> str:
        """Changes with everything that the drawn files depend on."""
        return fingerprint(str(VERSION), self.title, self.caption, self.fingerprint)

    def figure(self) -> "Figure":
        """Draw it."""
        with settings(self.name):
            return self.draw()


def fingerprint(*parts: pd.DataFrame | str | bytes) -> str:
    """Return the SHA-256 of frames and texts. Floats count to ten digits, as in the files."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, pd.DataFrame):
            part = part.to_csv(index=False, float_format="%.10g")
        content = part.encode() if isinstance(part, str) else part
        digest.update(len(content).to_bytes(8, "big") + content)
    return digest.hexdigest()
