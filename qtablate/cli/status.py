"""`qtablate status`: where every cell of a sweep stands, also while it runs, on this machine or elsewhere."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qtablate.cli.console import console, say, show_tables
from qtablate.cli.report import RESULTS
from qtablate.durations import format_duration

if TYPE_CHECKING:
    from qtablate.sweep.standing import Standing
    from qtablate.table import Table

_MOST_ROWS = 40
"""Of running, and of failed cells: those of a large cluster fill a terminal many times."""


def status(
    folder: Annotated[
        Path | None, typer.Argument(help="Results folder. [default: the newest under results/]", metavar="RESULTS")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with a list of cells, for scripts.")] = False,
) -> None:
    """Show where every cell of a sweep stands, while it runs and afterwards, from any machine that sees its folder."""
    from qtablate.execute.slurm_jobs import queued_jobs
    from qtablate.store import Store, newest
    from qtablate.sweep.joined import running_sweeps
    from qtablate.sweep.standing import count, seconds_left, standings

    store = Store(folder) if folder else newest(RESULTS)
    cells = standings(store, queued_jobs(store.root))
    sweeps = [f"{one.owner}, heard of {_ago(one.age)}" for one in running_sweeps(store)]
    counts, left = count(cells), seconds_left(cells)
    if as_json:
        rows = [dataclasses.asdict(cell) for cell in cells]
        typer.echo(json.dumps({"folder": str(store.root), "counts": counts, "seconds_left": left, "cells": rows}, indent=1))
        return
    screen = console()
    parts = [f"{counts['finished']} of {len(cells)} cells finished"]
    parts += [f"{number} {name}" for name, number in counts.items() if number and name != "finished"]
    about = f"; about {format_duration(left)} left at {counts['running']} at once" if left else ""
    say(screen, f"{store.root}: {', '.join(parts)}{about}", "bold")
    say(screen, f"Sweeps here: {'; '.join(sweeps)}" if sweeps else "No sweep runs here.")
    screen.print()
    show_tables(screen, _tables(cells))


def _tables(cells: "Sequence[Standing]") -> "list[Table]":
    """The tables that say something: running and queued cells, failed ones, and the conditions."""
    from qtablate.table import Table

    running = [
        (cell.name, cell.status, cell.owner or cell.queued, _how_far(cell), "" if cell.heard is None else _ago(cell.heard))
        for cell in cells
        if cell.status in ("running", "silent", "queued")
    ]
    failed = [(cell.name, cell.status, cell.error) for cell in cells if cell.status in ("failed", "damaged")]
    tables = []
    if running:
        columns = ("cell", "status", "where", "how far", "heard of")
        tables.append(Table("Running", columns, tuple(running[:_MOST_ROWS]), _and_more(running), left=5, optional=("status",)))
    if failed:
        note = (_and_more(failed) + " The same `qtablate sweep` tries them again; record.json has the traceback.").strip()
        heads = ("cell", "status", "error")
        tables.append(Table("Failed", heads, tuple(failed[:_MOST_ROWS]), note, left=3, optional=("status",)))
    return [*tables, _conditions(cells)]


def _and_more(rows: Sequence[object]) -> str:
    return f"And {len(rows) - _MOST_ROWS} more." if len(rows) > _MOST_ROWS else ""


def _conditions(cells: "Sequence[Standing]") -> "Table":
    """A row per condition: how many of its cells stand where, and what the finished ones score."""
    from qtablate.sweep.standing import count
    from qtablate.table import Table, percent

    by_name: dict[str, list[Standing]] = {}
    for cell in cells:
        by_name.setdefault(cell.condition, []).append(cell)
    used = [name for name, number in count(cells).items() if number]
    rows = []
    for name, own in by_name.items():
        scores = [cell.accuracy for cell in own if cell.accuracy is not None]
        counts = count(own)
        mean = percent(sum(scores) / len(scores)) if scores else ""
        rows.append((name, *(str(counts[status] or "") for status in used), mean))
    return Table("Conditions", ("condition", *used, "accuracy %"), tuple(rows), "Accuracy: mean over finished seeds.", left=1)


def _how_far(cell: "Standing") -> str:
    if cell.progress is None:
        return "starting" if cell.status == "running" else ""
    loss = f", loss {cell.progress.loss:.2f}" if cell.progress.loss is not None else ""
    return f"{cell.progress}{loss}"


def _ago(seconds: float) -> str:
    return f"{format_duration(max(0.0, seconds))} ago"
