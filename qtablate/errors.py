"""Mistakes a user can mend: the command line prints the message alone and exits 2. All else keeps its traceback."""


class QtablateError(Exception):
    """Says what was expected, what came, and what to do."""


class ConfigError(QtablateError):
    """A setting, or a combination of settings, that is unknown or cannot be run."""


class ModelError(QtablateError):
    """A model directory that is missing, incomplete or of another kind."""


class DataError(QtablateError):
    """Benchmark or training files that cannot be used as a whole (a single bad clip is reported, not raised)."""


class StoreError(QtablateError):
    """A results folder that is missing, foreign or in use."""


class BadMedia(Exception):
    """One clip that cannot be decoded. Caught where clips are read: the clip is named, counted and left out."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind, self.detail = kind, detail
