"""Tables of text for a terminal (rich) and for a Markdown file, and the formats of the figures in them."""

import re
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
"""Text in place of an uncertainty that says nothing."""
WIDEST = 1.0
"""Largest half-width of an interval of a difference that is shown, as a share: no difference of two accuracies is larger."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text, with its title and a note."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    left: int = 0
    """Number of columns from the left that hold words rather than figures."""
    optional: tuple[str, ...] = ()
    """Columns that are left out on a narrow terminal, the first one first."""
    tall: bool = False
    """Whether cells have many lines: all cells of a row then begin at its top, and an empty line separates rows."""
    styles: tuple[tuple[str, str], ...] = ()
    """(text, style): how a terminal with colors shows cells of exactly this text. Color only underlines what the text says."""

    def rich(self, width: int = 160) -> RenderableType:
        """Return the table for a terminal of `width` columns.

        Heads of columns break at spaces, figures do not, and optional columns are left out until the table fits. Where it then
        is still too wide, heads break at hyphens and underscores too, and figures where they must.
        """
        shown, left_out = list(range(len(self.columns))), []
        for name in self.optional:
            if self._width(shown) > width:
                shown.remove(self.columns.index(name))
                left_out.append(name)
        too_wide = self._width(shown) > width
        table = rich_table.Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for place in shown:
            words = place < self.left
            table.add_column(
                re.sub(r"(?<=[_-])(?=\w)| ", "\n", self.columns[place]) if too_wide else self.columns[place].replace(" ", "\n"),
                justify="left" if words else "right",
                vertical="top" if self.tall else "bottom",
                no_wrap=not (words or too_wide),  # a figure that breaks can be read, one that is cut cannot
                overflow="fold",
            )
        styles = dict(self.styles)
        for number, row in enumerate(self.rows):
            gap = "\n" * (self.tall and number < len(self.rows) - 1)
            table.add_row(*(Text(row[place] + gap, style=styles.get(row[place], "")) for place in shown))
        missing = f"(Not shown: {', '.join(left_out)}.)" if left_out else ""
        note = " ".join(part for part in (self.note, missing) if part)
        return Group(Text(self.title, style="bold"), table, Text(note, style="dim"))

    def _width(self, shown: Sequence[int]) -> int:
        """Return the width of these columns, with the space between them."""
        widths = [
            max(
                len(line)
                for text in (self.columns[place].replace(" ", "\n"), *(row[place] for row in self.rows))
                for line in text.split("\n")
            )
            for place in shown
        ]
        return sum(widths) + 3 * len(widths)

    def markdown(self) -> str:
        """Return the table with its title as a heading of the second level."""
        lines = [f"## {self.title}", "", _markdown_row(self.columns)]
        lines.append(_markdown_row(["---" if place < self.left else "---:" for place in range(len(self.columns))]))
        lines += [_markdown_row(row) for row in self.rows]
        return "\n".join([*lines, *(["", self.note] if self.note else [])])


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def percent(value: Any, stderr: Any = None, digits: int = 1) -> str:
    """Format a share in percent, with its standard error where there is one; empty when missing."""
    if pd.isna(value):
        return ""
    text = f"{100 * float(value):z.{digits}f}"
    return text if pd.isna(stderr) else f"{text} ±{100 * float(stderr):.{digits}f}"


def with_error(value: Any, stderr: Any, clips: Any) -> str:
    """Format a share in percent with its standard error, as far as that says something.

    Args:
        value: share of the items.
        stderr: its standard error; 0 where all clips scored alike, so that their spread is unknown: it is not shown.
        clips: number of clips of the items; below MIN_CLIPS, `too few` replaces the standard error.
    """
    if pd.isna(value):
        return ""
    if clips < MIN_CLIPS:
        return f"{percent(value)} ({TOO_FEW})"
    return percent(value, stderr if stderr else None)


def is_uninformative(half_width: Any) -> bool:
    """Whether half an interval of differences, or a minimum detectable effect, is missing or larger than any difference."""
    return bool(pd.isna(half_width)) or float(half_width) > WIDEST


def number(value: Any, digits: int = 0) -> str:
    """Format a figure with commas between thousands; empty when missing, and never a negative zero."""
    return "" if pd.isna(value) else f"{float(value):z,.{digits}f}"


def points(value: Any, sign: bool = True) -> str:
    """Format a share as percentage points; empty when missing."""
    return "" if pd.isna(value) else f"{100 * float(value):{'+' if sign else ''}z.1f}"


def p_text(value: Any) -> str:
    """Format a p-value: three decimals, or scientific notation where they would show 0; empty where it is missing."""
    if pd.isna(value):
        return ""
    return f"{float(value):.1e}" if float(value) < 0.0005 else f"{float(value):.3f}"
