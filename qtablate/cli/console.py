"""Where the commands print, and how they follow something that takes long."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import track

from qtablate.errors import ConfigError

if TYPE_CHECKING:
    from qtablate.table import Table

STATUS_SECONDS = 15.0
"""Between status lines where the output is not a terminal."""
PIPE_WIDTH = 160
"""Columns of the tables where the output is not a terminal: wide enough for all of them."""


def console(stderr: bool = False) -> Console:
    """Results go to stdout, progress and failures to stderr, so that `qtablate sweep > tables.txt` writes tables alone."""
    out = Console(highlight=False, markup=False, stderr=stderr)
    return out if out.is_terminal else Console(highlight=False, markup=False, stderr=stderr, width=PIPE_WIDTH)


def say(screen: Console, text: str, style: str | None = None) -> None:
    """Print one paragraph: wrapped at words in a terminal, one line elsewhere."""
    screen.print(text, style=style, soft_wrap=not screen.is_terminal)


def show_tables(screen: Console, tables: Iterable["Table"]) -> None:
    """Print tables, each followed by an empty line."""
    for table in tables:
        screen.print(table.rich(screen.width))
        screen.print()


def check_writable(csv: Path | None) -> None:
    """Refuse a --csv that cannot be written, before anything takes long. Raises ConfigError."""
    if csv and (csv.is_dir() or not csv.parent.is_dir() or not os.access(csv.parent, os.W_OK)):
        raise ConfigError(f"--csv: {csv} cannot be written: expected the name of a file in an existing folder")


def write_csv(screen: Console, csv: Path | None, content: Callable[[], str]) -> None:
    """Write a table to the file named by --csv, where one is named."""
    from qtablate.files import write_text

    if csv:
        write_text(csv, content())
        say(screen, f"Written: {csv}")


def follow_clips(screen: Console) -> Callable[[Sequence[str]], Iterable[str]]:
    """Go through clips and show how far it is: a bar in a terminal, a line now and then elsewhere."""

    def follow(clips: Sequence[str]) -> Iterable[str]:
        if screen.is_terminal:
            yield from track(clips, "Decoding clips", console=screen, transient=True)
            return
        printed = time.monotonic()
        for number, clip in enumerate(clips):
            if time.monotonic() - printed > STATUS_SECONDS:
                printed = time.monotonic()
                screen.print(f"  decoding clip {number} of {len(clips)}", soft_wrap=True)
            yield clip

    return follow


def exit_unless(passed: bool) -> None:
    """End the command with exit code 1 where something was found wrong."""
    if not passed:
        raise typer.Exit(1)
