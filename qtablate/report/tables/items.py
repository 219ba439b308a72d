"""The table of items: how many all conditions answer, none does, and on how many they disagree."""

import pandas as pd

from qtablate.report.items import DISAGREE, RIGHT, WRONG, group_counts
from qtablate.table import Table


def item_table(items: pd.DataFrame) -> Table | None:
    """Return a row per task; None without items.

    Args:
        items: a row per item.
    """
    if items.empty:
        return None
    rows = tuple(
        (str(row["task"]), str(row["n"]), str(row[RIGHT]), str(row[DISAGREE]), str(row[WRONG])) for row in group_counts(items)
    )
    note = (
        "A condition answers an item where most of its seeds do. report.html shows single items: clip, options, and what every "
        "condition and seed answered."
    )
    return Table("Items", ("task", "n", RIGHT, DISAGREE, WRONG), rows, note, left=1)
