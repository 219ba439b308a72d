"""qtablate: which visual-query budget and which gradient accumulation should a video language model be trained with?"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qtablate.report.results import Results

__version__ = "0.1.0"


def load(folder: Any, **asked: Any) -> "Results":
    """A results folder as pandas frames: see `qtablate.report.results.load`. Imported when called, so that the command
    line stays quick."""
    from qtablate.report.results import load as read

    return read(folder, **asked)
