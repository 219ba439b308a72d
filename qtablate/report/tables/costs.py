"""The table of costs."""

import pandas as pd

from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import records_of
from qtablate.table import ColumnNote, Table, number, percent

_COLUMNS = (
    "visual tokens",
    "prefill GFLOPs",
    "added %",
    "KV cache MB",
    "step s",
    "item ms",
    "memory MB",
    "accuracy %",
    "Pareto-optimal",
    "vs best",
)
_OPTIONAL = ("memory MB", "item ms", "added %", "step s", "KV cache MB", "prefill GFLOPs")


def cost_table(costs: pd.DataFrame, text_tokens: int) -> Table | None:
    """Return a row per finished condition: its cost and whether it is worth it; None without any.

    Args:
        costs: a row per condition.
        text_tokens: tokens of text that are read beside the visual ones.
    """
    if costs.empty:
        return None
    shown = shown_axes(costs)
    rows = []
    for row in records_of(costs):
        fronts = [word for word, name in (("tokens", "pareto_by_tokens"), ("time", "pareto_by_time")) if row[name]]
        text_only = row["prefill_gflops"] - row["prefill_gflops_added"]
        rows.append(
            (
                *level_labels(row, shown),
                number(row["visual_tokens"]),
                number(row["prefill_gflops"]),
                number(100 * row["prefill_gflops_added"] / text_only),
                number(row["cache_mb"]),
                number(row["step_seconds"], 3),
                number(row["item_milliseconds"], 1),
                number(row["peak_memory_mb"]),
                percent(row["accuracy"]),
                ", ".join(fronts),
                str(row["equivalent_to_best"]),
            )
        )
    model = f"by formula, for {costs['language_model'].iloc[0]} reading {text_tokens} tokens of text and the visual tokens"
    about = (
        ColumnNote(("prefill GFLOPs", "KV cache MB"), f"Prefill, KV cache (bf16): {model} (--cost-model names another model)."),
        ColumnNote(("added %",), "Added: relative to the text alone."),
        ColumnNote(("step s", "item ms", "memory MB"), "Step, item, memory: measured here."),
        ColumnNote(
            ("Pareto-optimal",),
            "Pareto-optimal: no condition with as few visual tokens (tokens), or as little training time (time), has a higher "
            "accuracy, uncertainty aside.",
        ),
        ColumnNote(
            ("vs best",),
            "Vs best: against the condition of the highest accuracy, which is called best where at least one other is surely "
            "worse or equivalent. Equivalent: surely less than the margin below every other. Undecided: not surely worse. "
            "Empty: surely worse.",
        ),
    )
    return Table("Cost", (*axis_labels(shown), *_COLUMNS), tuple(rows), optional=_OPTIONAL, about=about)
