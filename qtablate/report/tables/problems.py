"""Tables of what went wrong or differs behind the scenes: software, failed cells, left-out data."""

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from qtablate.records import LeftOut
from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import records_of
from qtablate.store import DAMAGED
from qtablate.table import Table
from qtablate.video.isolated import RETRYABLE


def software_of(cells: pd.DataFrame) -> list[str]:
    """Return the versions and the machine of every finished cell, as far as they are recorded."""
    done = cells[(cells["status"] == "ok") & (cells["software"] != "")]
    return [f"{row['software']}; on {row['host']}" for row in records_of(done)]


def software_table(cells: pd.DataFrame) -> Table | None:
    """Return how many cells each set of versions and machine made; None where all are the same."""
    counts = Counter(software_of(cells))
    if len(counts) < 2:
        return None
    rows = tuple((str(count), *software.split("; on ")) for software, count in counts.most_common())
    note = (
        "Different packages or machines made these cells. Numbers round differently there, so that a difference between two "
        "cells may be due to the software and not to the condition."
    )
    return Table("Software", ("cells", "packages", "machine"), rows, note, left=3)


def failure_table(cells: pd.DataFrame) -> Table | None:
    """Return a row per cell that failed or whose files are damaged; None without any."""
    failed = cells[cells["status"].isin(["failed", DAMAGED])]
    if failed.empty:
        return None
    shown = shown_axes(cells)
    rows = tuple(
        (str(row["key"]), *level_labels(row, shown), str(row["seed"]), str(row["status"]), str(row["error"]))
        for row in records_of(failed)
    )
    note = (
        "These cells are in no table above. The same sweep command runs them again. The traceback of a failed cell is in its "
        "record.json."
    )
    columns = ("key", *axis_labels(shown), "seed", "status", "error")
    return Table("Failed or damaged cells", columns, rows, note, left=1)


def left_out_table(problems: Sequence[LeftOut], examples: int = 3) -> Table | None:
    """Return a row per kind of problem because of which data were left out, with examples by name; None without any.

    Args:
        problems: subject, kind and detail of each; `of` says whether it is an item or a sample.
        examples: how many of a kind to show.
    """
    if not problems:
        return None
    kinds: dict[str, list[str]] = {}
    for problem in problems:
        kinds.setdefault(problem.kind, []).append(f"{problem.subject}: {problem.detail}")
    rows = tuple((kind, str(len(texts)), "\n".join(texts[:examples])) for kind, texts in kinds.items())
    of = [problem.of for problem in problems]
    counts = [
        f"{count} {what}"
        for count, what in (
            (of.count("item"), "of the items, from every score above"),
            (of.count("sample"), "of the samples, from training"),
        )
        if count
    ]
    note = f"Left out: {' and '.join(counts)}. At most {examples} of a kind are shown; sweep.json names all."
    retried = [kind for kind in RETRYABLE if kind in kinds]
    if retried:
        note += f" {' and '.join(retried)}: `qtablate cache --retry` tries these again."
    return Table("Left out", ("kind", "count", "examples"), rows, note, left=3)
