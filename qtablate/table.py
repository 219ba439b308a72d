"""Tables of text for a terminal (rich) and for a Markdown file, and the formats of the figures in them."""

import html
import re
import sys
import textwrap
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


STYLES = {
    "better": "green",
    "best": "green",
    "passed": "green",
    "worse": "red",
    "failed": "bold red",
    "FAILED": "bold red",
    "NO": "bold red",
    "equivalent": "cyan",
    "undecided": "yellow",
    "drifts": "yellow",
}
"""Style of a cell that holds this word and nothing else. The word says it too, so that nothing rests on color alone."""


@dataclass(frozen=True, slots=True)
class ColumnNote:
    """What some columns hold."""

    columns: tuple[str, ...]
    text: str
    """Sentences that are shown where one of these columns is."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table as text, with its title and a note."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    """What holds for the whole table."""
    left: int = 0
    """Number of columns from the left that hold words rather than figures."""
    optional: tuple[str, ...] = ()
    """Columns that are left out on a narrow terminal, the first one first."""
    tall: bool = False
    """Whether cells have many lines: all cells of a row then begin at its top, and an empty line separates rows."""
    about: tuple[ColumnNote, ...] = ()
    """Notes on single columns, which are left out with them."""
    remarks: str = ""
    """What stands behind all notes: conclusions in words, warnings."""

    def rich(self, width: int = 160) -> RenderableType:
        """Return the table for a terminal of `width` columns.

        Heads of columns break at spaces where the column's figures are narrower, figures do not break, and optional columns are
        left out, with what the notes say of them, until the table fits. Where it then is still too wide, heads break at hyphens
        and underscores too, and figures where they must.
        """
        shown = self.fitting(width)
        too_wide = self._width(shown) > width
        table = rich_table.Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
        for place in shown:
            words = place < self.left
            table.add_column(
                re.sub(r"(?<=[_-])(?=\w)| ", "\n", self.columns[place]) if too_wide else self._head(place),
                justify="left" if words else "right",
                vertical="top" if self.tall or self.left == len(self.columns) else "bottom",
                no_wrap=not (words or too_wide),  # a figure that breaks can be read, one that is cut cannot
                overflow="fold",
            )
        for number, row in enumerate(self.rows):
            gap = "\n" * (self.tall and number < len(self.rows) - 1)
            table.add_row(*(Text(row[place] + gap, STYLES.get(row[place], "")) for place in shown))
        names = [self.columns[place] for place in shown]
        used = [self.columns.index(name) for name in self.optional if name not in names]
        left_out = [self.columns[place] for place in used if any(row[place] for row in self.rows)]
        missing = f"(Not shown: {', '.join(left_out)}.)" if left_out else ""
        return Group(Text(self.title, style="bold"), table, Text(self.notes(names, missing), style="dim"))

    def fitting(self, width: int) -> list[int]:
        """Return the places of the columns that fit into so many characters: all, or without the first optional ones. Optional
        columns without any text are never shown."""
        shown = [
            place
            for place, name in enumerate(self.columns)
            if name not in self.optional or any(row[place] for row in self.rows)
        ]
        for name in self.optional:
            if self._width(shown) > width and self.columns.index(name) in shown:
                shown.remove(self.columns.index(name))
        return shown

    def notes(self, columns: Sequence[str] | None = None, missing: str = "") -> str:
        """Return all notes on a table that shows these columns.

        Args:
            columns: names of the columns; None: all.
            missing: a sentence on others, which stands before the remarks.
        """
        about = [one.text for one in self.about if set(one.columns) & set(self.columns if columns is None else columns)]
        text = " ".join(part for part in (self.note, *about, missing) if part)
        return "\n".join(part for part in (text, self.remarks) if part)

    def _head(self, place: int) -> str:
        """Return the head of a column, broken at spaces so that it is hardly wider than what stands under it."""
        head = _unbroken(self.columns[place])
        width = max(len(line) for text in (*head.split(" "), *(row[place] for row in self.rows)) for line in text.split("\n"))
        return textwrap.fill(head, width, break_long_words=False, break_on_hyphens=False)

    def _width(self, shown: Sequence[int]) -> int:
        """Return the width of these columns, with the space between them."""
        widths = [
            max(
                len(line)
                for text in (_unbroken(self.columns[place]).replace(" ", "\n"), *(row[place] for row in self.rows))
                for line in text.split("\n")
            )
            for place in shown
        ]
        return sum(widths) + 3 * len(widths)

    def html(self) -> str:
        """Return the table without title and notes, with everything escaped. Figures are of the class `figure`, verdicts
        also of the class that is their word."""
        places = self.fitting(sys.maxsize)
        classes = ["word" if place < self.left else "figure" for place in places]
        head = _html_row("th", [self.columns[place] for place in places], classes)
        body = "".join(_html_row("td", [row[place] for place in places], classes) for row in self.rows)
        return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"

    def markdown(self) -> str:
        """Return the table with its title as a heading of the second level."""
        lines = [f"## {self.title}", "", _markdown_row(self.columns)]
        lines.append(_markdown_row(["---" if place < self.left else "---:" for place in range(len(self.columns))]))
        lines += [_markdown_row(row) for row in self.rows]
        note = self.notes()
        return "\n".join([*lines, *(["", note] if note else [])])


def _html_row(tag: str, cells: Sequence[str], classes: Sequence[str]) -> str:
    scope = ' scope="col"' if tag == "th" else ""
    named = [f"{name} {cell}" if cell in STYLES else name for name, cell in zip(classes, cells, strict=True)]
    parts = [f'<{tag}{scope} class="{name}">{html.escape(cell)}</{tag}>' for cell, name in zip(cells, named, strict=True)]
    return f"<tr>{''.join(parts)}</tr>"


def _unbroken(head: str) -> str:
    """Keep what belongs together in one line: `s / step`, `64 - 0`."""
    return re.sub(r" ([-/]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", head)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", "<br>") for cell in cells) + " |"


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
