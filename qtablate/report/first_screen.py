"""The first screen of a report: the answer, what was compared, what to beware of, and where to read on, in 25 lines."""

import re
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console, RenderableType
from rich.text import Text

from qtablate.report.folder import AXES
from qtablate.report.headline import Headline
from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.report.verdicts import WORSE
from qtablate.table import ColumnNote, Table, number, percent, with_error

LINES = 25
"""Of a small terminal, and of a first screen."""
_FEWEST_ROWS = 3
_ANSWER_LINES = 7
_WARNINGS = 2
_CLAUSES = re.compile(r"(?<=[.;]) (?![^(]*\))")
"""Where a sentence or a clause ends, outside parentheses."""
_OPTIONAL = ("train s", "visual tokens", "seed sd", "seeds", "blind %")


def first_screen(
    headline: Headline, summary: pd.DataFrame, costs: pd.DataFrame, width: int, more: Sequence[str] = (), lines: int = LINES
) -> list[RenderableType]:
    """Return the first screen of a report for a terminal of `width` columns.

    Where the whole does not fit into `lines`, the table shows the baseline and the conditions of the highest accuracy, and the
    answer its first sentences. What is left out is said.

    Args:
        headline: the answer.
        summary: a row per condition.
        costs: a row per finished condition.
        width: in columns.
        more: where to read on, a paragraph each.
        lines: that the screen has.
    """
    console = Console(width=width, color_system=None)
    before = [Text(_shortened(headline.answer, console), "bold" if headline.recommends else "bold yellow")]
    if headline.highest and headline.recommends and not headline.recommends_one:
        before.append(Text(headline.highest.partition(". ")[0] + "."))
    before.append(Text(""))
    after = [*_after(headline), *(Text(line, "dim") for line in more)]
    rest = sum(_height(part, console) for part in (*before, *after))
    rows = min(len(summary), max(lines - rest, _FEWEST_ROWS))  # each takes a line at least
    while rows > _FEWEST_ROWS and rest + _height(condition_table(summary, costs, rows).rich(width), console) > lines:
        rows -= 1
    return [*before, condition_table(summary, costs, rows).rich(width), *after]


def _height(part: RenderableType, console: Console) -> int:
    return len(console.render_lines(part))


def _shortened(text: str, console: Console) -> str:
    """Return the first clauses of a text that fit into a few lines, and where the others are."""
    lines = _ANSWER_LINES
    if _height(Text(text), console) <= lines:
        return text
    clauses = _CLAUSES.split(text)
    more = "... (--full says all of it.)"
    while len(clauses) > 1 and _height(Text(" ".join([*clauses, more])), console) > lines:
        clauses.pop()
    return " ".join([*clauses, more])


def _after(headline: Headline) -> list[Text]:
    """Say what was compared, and what to beware of."""
    parts = [Text(headline.scope)] if headline.scope else []
    parts += [Text(f"Warning: {warning}", "yellow") for warning in headline.warnings[:_WARNINGS]]
    hidden = len(headline.warnings) - _WARNINGS
    if hidden > 0:
        parts.append(Text(f"{hidden} more warning{'s' * (hidden > 1)}: --full", "yellow"))
    return parts


def condition_table(summary: pd.DataFrame, costs: pd.DataFrame, rows: int) -> Table:
    """Return the table of the first screen with so many rows at most: the baseline, and those of the highest accuracy."""
    records = records_of(summary)
    standing = {_levels(row): str(row["equivalent_to_best"]) for row in records_of(costs)}
    chosen = _chosen(records, rows)
    shown = shown_axes(summary)
    few = f": the first and the {len(chosen) - 1} most accurate of {len(records)}" if len(chosen) < len(records) else ""
    texts = tuple(
        (
            *level_labels(row, shown),
            with_error(row["accuracy"], row["accuracy_item_stderr"], row["n_clusters"]),
            percent(row["accuracy_seed_sd"]),
            percent(row["blind_accuracy"]),
            _standing(row, standing),
            number(row["visual_tokens"]),
            number(row["train_seconds"]),
            f"{row['seeds_done']}/{row['seeds_wanted']}",
        )
        for row in (records[place] for place in chosen)
    )
    columns = ("accuracy %", "seed sd", "blind %", "vs best", "visual tokens", "train s", "seeds")
    about = (ColumnNote(("accuracy %",), "±: standard error over items."),)
    return Table(f"Conditions{few}", (*axis_labels(shown), *columns), texts, optional=_OPTIONAL, about=about)


def _standing(row: Row, standing: Mapping[tuple[object, ...], str]) -> str:
    """Say how a condition stands against the one of the highest accuracy."""
    if not row["seeds_done"]:
        return "not finished"
    if row["incorrect"]:
        return "incorrect"
    known = any(standing.values())  # tables of an earlier version do not say it
    return (standing[_levels(row)] or WORSE) if known and _levels(row) in standing else ""


def _levels(row: Row) -> tuple[object, ...]:
    return tuple(row.get(axis) for axis in AXES)


def _chosen(records: Sequence[Row], rows: int) -> list[int]:
    """Return the places of the rows that are shown, in their order."""
    if len(records) <= rows:
        return list(range(len(records)))
    accuracies = [row["accuracy"] if row["seeds_done"] else -1.0 for row in records]
    by_accuracy = sorted(range(len(records)), key=lambda place: -accuracies[place])
    return sorted([0, *[place for place in by_accuracy if place][: rows - 1]])
