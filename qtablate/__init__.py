"""qtablate: which visual-query budget and which gradient accumulation should a video language model be trained with?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtablate.analyse.load import Results

__version__ = "0.1.0"


def load(folder: Any, **asked: Any) -> "Results":
    """A results folder as pandas frames: see `qtablate.analyse.load.load`. Imported when called, so that the command
    line stays quick."""
    from qtablate.analyse.load import load as read

    return read(folder, **asked)
