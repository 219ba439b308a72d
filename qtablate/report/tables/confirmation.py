"""The table of the confirmation: the recommended condition against the baseline, with fresh seeds."""

import pandas as pd

from qtablate.records import NOT_NEEDED
from qtablate.report.confirmation import RECOMMENDED_IS
from qtablate.report.labels import axis_labels, level_labels, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.report.tables.cells import INTERVAL, has_too_few, interval, plural, too_few_note
from qtablate.report.verdicts import ITEMS_ONLY
from qtablate.table import Table, p_text, percent, points


def confirmation_table(confirmation: pd.DataFrame, cells: pd.DataFrame) -> Table | None:
    """Return a row for the recommended and one for the baseline condition; None where nothing is confirmed.

    Args:
        confirmation: these two rows.
        cells: a row per cell of the grid.
    """
    if confirmation.empty:
        return None
    shown = shown_axes(cells)
    recommended, baseline = records_of(confirmation)
    rows = tuple(
        (
            str(row["role"]),
            *level_labels(row, shown),
            percent(row["accuracy_at_selection"]),
            percent(row["accuracy"]),
            points(row["difference_at_selection"]),
            points(row["difference"]),
            interval(row),
            p_text(row["p"]),
        )
        for row in (recommended, baseline)
    )
    columns = (
        "condition",
        *axis_labels(shown),
        "grid's seeds %",
        "fresh seeds %",
        "points, grid's seeds",
        "points, fresh seeds",
        INTERVAL,
        "p",
    )
    note = " ".join(_notes(recommended, baseline, cells)) + too_few_note(text for row in rows for text in row)
    return Table("Confirmation", columns, rows, note, left=1, optional=("p", "points, grid's seeds"))


def _notes(recommended: Row, baseline: Row, cells: pd.DataFrame) -> list[str]:
    """Explain the table, a sentence each."""
    notes = [
        f"Recommended: {RECOMMENDED_IS}. Baseline: all axes at their default baseline levels.",
        f"{_counts(recommended, baseline)} made this choice, which flatters a condition that was lucky with its seeds.",
    ]
    done, wanted = int(recommended["seeds"]), int(recommended["seeds_wanted"])
    if done:
        numbers = str(recommended["fresh_seeds"]).split()
        named = f"Seed {numbers[0]}" if done == 1 else f"Seeds {', '.join(numbers[:-1])} and {numbers[-1]}"
        notes.append(
            f"{named} took no part in it; the items are the same ones ({plural(int(recommended['n_items']), 'item')} of "
            f"{plural(int(recommended['n_clusters']), 'clip')}). Points: recommended minus baseline. Interval and p: paired by "
            "item and seed over the fresh seeds, of this one comparison."
        )
    if done < wanted:
        notes.append(f"Finished so far with both conditions: {done} of {plural(wanted, 'fresh seed')}.")
    missing = int((~cells["status"].isin(("ok", NOT_NEEDED))).sum())
    if missing:
        notes.append(f"Missing from the choice: {missing} of {plural(len(cells), 'cell')} of the grid.")
    if recommended["uncertainty"] == ITEMS_ONLY and not has_too_few(recommended):
        notes.append("ONE SEED: the interval holds the uncertainty of the items only, not what another seed would change.")
    return notes


def _counts(recommended: Row, baseline: Row) -> str:
    """Say how many seeds of the grid are behind the two accuracies."""
    first, second = int(recommended["seeds_at_selection"]), int(baseline["seeds_at_selection"])
    different = f" ({first} of the recommended condition, {second} of the baseline)" if first != second else ""
    return f"The grid's {plural(max(first, second), 'seed')}{different}"
