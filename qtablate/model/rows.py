"""Which rows of the extra query tokens are kept, cut and newly made; without torch, since a plan says it too."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Surgery:
    held: int
    """Rows that the model's files have."""
    wanted: int
    how: str
    """How new rows are made."""

    @property
    def kept(self) -> int:
        return min(self.held, self.wanted)

    def __str__(self) -> str:
        parts = [
            _rows("kept", 0, self.kept),
            _rows("cut", self.kept, self.held),
            _rows("made", self.kept, self.wanted) + (f" ({self.how})" if self.wanted > self.kept else ""),
        ]
        return "extra query tokens: " + (", ".join(part for part in parts if part) or "none, none made")


def _rows(what: str, start: int, end: int) -> str:
    if end <= start:
        return ""
    return f"{what} row {start}" if end == start + 1 else f"{what} rows {start}-{end - 1}"
