"""Tables for eyes: rich for a terminal, Markdown for a file. Both show the same cells of text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich import box
from rich import table as rich_table
from rich.console import Group, RenderableType
from rich.text import Text

from qtablate.statistics.clustered import MIN_CLIPS

TOO_FEW = "too few"
"""What stands in place of an uncertainty that says nothing."""
WIDEST = 1.0
"""Half of an interval, as a share, from which on it says nothing: no difference of two accuracies can be larger."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    left: int = 0
    """How many columns from the left hold words rather than figures."""
    optional: tuple[str, ...] = ()
    """Columns that a narrow terminal may lack, the first to go first."""
    tall: bool = False
    """Cells of many lines: all of a row begin at its top, and an empty line parts the rows."""

    def rich(self, width: int = 160) -> RenderableType:
        """For a terminal of so many columns: headers break at spaces, figures never do, optional columns go."""
        shown, gone = list(range(len(self.columns))), []
        for name in self.optional:
            if self._width(shown) > width:
                shown.remove(self.columns.index(name))
                gone.append(name)
        table = rich_table.Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for number in shown:
            words = number < self.left
            table.add_column(
                self.columns[number].replace(" ", "\n"),
                justify="left" if words else "right",
                vertical="top" if self.tall else "bottom",
                no_wrap=not words,
                overflow="fold",
            )
        for place, row in enumerate(self.rows):
            gap = "\n" * (self.tall and place < len(self.rows) - 1)
            table.add_row(*(Text(row[number] + gap) for number in shown))
        missing = f"(No room for: {', '.join(gone)}.)" if gone else ""
        note = " ".join(part for part in (self.note, missing) if part)
        return Group(Text(self.title, style="bold"), table, Text(note, style="dim"))

    def _width(self, shown: Sequence[int]) -> int:
        longest = [
            max(
                len(word)
                for text in (self.columns[n].replace(" ", "\n"), *(row[n] for row in self.rows))
                for word in text.split("\n")
            )
            for n in shown
        ]
        return sum(longest) + 3 * len(longest)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", _line(self.columns)]
        lines.append(_line(["---" if number < self.left else "---:" for number in range(len(self.columns))]))
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def percent(value: Any, stderr: Any = None, digits: int = 1) -> str:
    """A share in percent, with its standard error where there is one; empty when missing."""
    if pd.isna(value):
        return ""
    text = f"{100 * float(value):z.{digits}f}"
    return text if pd.isna(stderr) else f"{text} ±{100 * float(stderr):.{digits}f}"


def with_error(value: Any, stderr: Any, clips: Any) -> str:
    """A share of the items of so many clips in percent, with its standard error. `too few` stands in its place below
    MIN_CLIPS clips, and nothing where all clips scored alike, which tells no spread."""
    if pd.isna(value):
        return ""
    if clips < MIN_CLIPS:
        return f"{percent(value)} ({TOO_FEW})"
    return percent(value, stderr if stderr else None)


def says_nothing(half: Any) -> bool:
    """Whether half of an interval of differences, or a detectable difference, is missing or larger than any there can be."""
    return bool(pd.isna(half)) or float(half) > WIDEST


def number(value: Any, digits: int = 0) -> str:
    """A figure with thousands set apart; empty when missing, and never a negative zero."""
    return "" if pd.isna(value) else f"{float(value):z,.{digits}f}"


def points(value: Any, sign: bool = True) -> str:
    """A share as percentage points."""
    return "" if pd.isna(value) else f"{100 * float(value):{'+' if sign else ''}z.1f}"
