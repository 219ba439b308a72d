"""The table of diagnostics of extra query tokens."""

from collections.abc import Sequence

import pandas as pd

from qtablate.report.extra_tokens import COPIES, FROZEN, remedy
from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.report.tables.cells import plural
from qtablate.table import ColumnNote, Table, number, percent, points

_COLUMNS = (
    "query rank",
    "query cosine",
    "output rank",
    "output cosine",
    "moved %",
    "attention to base %",
    "attention to extra %",
    "without extra",
    "without base",
    "min sufficient",
    "state",
)
_OPTIONAL = ("query cosine", "output cosine", "without base", "attention to base %", "moved %", "query rank")


def diagnostics_table(diagnostics: pd.DataFrame, margin: float) -> Table | None:
    """Return a row per condition with extra tokens: their diversity and what they contribute; None without any.

    Args:
        diagnostics: a row per condition (query_diagnostics.py).
        margin: as a share.
    """
    if diagnostics.empty:
        return None
    shown = shown_axes(diagnostics)
    rows = [
        (
            *level_labels(row, shown),
            number(row["query_rank"], 1),
            number(row["query_cosine"], 2),
            number(row["output_rank"], 1),
            number(row["output_cosine"], 2),
            percent(row["moved_relative"], digits=0),
            percent(row["attention_base"]),
            percent(row["attention_extra"]),
            points(row["change_without_extra"]),
            points(row["change_without_base"]),
            str(row["min_sufficient_tokens"]),
            str(row["extra_state"]),
        )
        for row in records_of(diagnostics)
    ]
    about = (
        ColumnNote(
            ("query rank", "output rank"),
            "Rank: effective rank (exp of the entropy of the singular values) of the learned queries, and of the Q-Former's "
            "output for one clip.",
        ),
        ColumnNote(("query cosine", "output cosine"), "Cosine: mean over pairs of tokens."),
        ColumnNote(("moved %",), "Moved: distance from the initial values, in % of that of the base queries."),
        ColumnNote(("attention to base %", "attention to extra %"), "Attention: % of the attention of the answer's positions."),
        ColumnNote(
            ("without extra", "without base"),
            "Without: change of the accuracy on a sample of the items, in points, when the extra tokens are removed, or when "
            "the base tokens are the same for every clip, without new training.",
        ),
        ColumnNote(
            ("min sufficient",),
            "Min sufficient: the fewest first extra tokens that keep this accuracy within "
            f"{points(margin, sign=False)} points, as measured, uncertainty aside.",
        ),
    )
    remarks = " ".join(filter(None, (_sentence(row, shown) for row in records_of(diagnostics))))
    columns = (*axis_labels(shown), *_COLUMNS)
    return Table("Extra query tokens", columns, tuple(rows), optional=_OPTIONAL, about=about, remarks=remarks)


def _sentence(row: Row, shown: Sequence[str]) -> str:
    """Describe the extra tokens of a condition in a sentence; empty where there is nothing to say."""
    count = int(row["extra_num_query_tokens"])
    others = [axis for axis in shown if axis != "extra_num_query_tokens"]
    levels = [f"{label} {level}" for label, level in zip(axis_labels(others), level_labels(row, others), strict=True)]
    tokens = f"{plural(count, 'extra token')} ({', '.join([*levels, str(row['extra_init'])])})"
    advice = remedy(row["extra_state"], row["extra_init"], row["extra_lr"])
    rank: str = "" if pd.isna(row["output_rank"]) else f" behave like {number(row['output_rank'])}"
    if row["extra_state"] == FROZEN:
        return f"{tokens} are frozen: they hardly moved from their initial values. {advice}"
    if row["extra_state"] == COPIES:
        return f"{tokens} are copies of one another{' and' * bool(rank)}{rank}. {advice}"
    return f"{tokens}{rank}." if rank and count > 1 else ""
