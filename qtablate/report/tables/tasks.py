"""Tables of accuracies per task, and of published averages."""

from collections.abc import Mapping

import pandas as pd

from qtablate.prompts.mvbench import MEDIA_ROOTS, PUBLISHED_ACCURACY
from qtablate.report.labels import axis_labels, short_label, shown_axes
from qtablate.report.rows import records_of
from qtablate.table import Table, percent, points

MVBENCH_ITEMS = 200 * len(MEDIA_ROOTS)
"""Items of MVBench, 200 per task."""


def task_table(tasks: pd.DataFrame, base: Mapping[str, float], left_out: Mapping[str, int]) -> Table:
    """Return a row per task and a column per condition: accuracy, mean over seeds.

    Args:
        tasks: a row per cell and task.
        base: accuracy of the pretrained model by task, where it is known.
        left_out: number of left-out items by task.
    """
    shown = shown_axes(tasks)
    labels = pd.Series([short_label(row, shown) for row in records_of(tasks[shown])], tasks.index)
    conditions = list(dict.fromkeys(labels))
    grouped = tasks.assign(label=labels).groupby("task", sort=False)
    rows = []
    for task, group in grouped:
        means = group.groupby("label")["accuracy"].mean()
        rows.append(
            (
                str(task),
                _item_count(int(group["n_items"].iloc[0]), left_out.get(str(task), 0)),
                percent(group["chance"].iloc[0]),
                percent(group["blind_accuracy"].mean()),
                *([percent(base.get(str(task)))] if base else []),
                *(percent(means.get(label)) for label in conditions),
            )
        )
    blank = ("",) * (len(conditions) + 2 + bool(base))
    rows += [(task, _item_count(0, count), *blank) for task, count in left_out.items() if task not in grouped.groups]
    fewest = int(grouped["n_items"].first().min())
    note = (
        f"Accuracy in %, mean over seeds. Columns: {'/'.join(axis_labels(shown))}. The standard error of the accuracy on one "
        f"task is up to {points(0.5 / fewest**0.5, sign=False)} points at n = {fewest}, and larger where its items share clips."
    )
    if left_out:
        note += (
            f" {sum(left_out.values())} items of {len(left_out)} tasks are left out (see Left out), so that averages over "
            "items weight the tasks otherwise than the whole benchmark does."
        )
    if base:
        note += " base: the pretrained model with its own connector, which every cell initializes anew."
    columns = ("task", "n", "chance", "blind", *(["base"] if base else []), *conditions)
    return Table("Tasks", columns, tuple(rows), note, left=1, optional=("n", "chance"))


def _item_count(used: int, left_out: int) -> str:
    """Format a number of items: `100`, or `98 of 100` where some are left out."""
    return f"{used} of {used + left_out}" if left_out else str(used)


def published_table(tasks: pd.DataFrame) -> Table | None:
    """Return the averages that were published for MVBench; None unless its 20 tasks and no others were scored.

    Where other than its 4,000 items were scored, the table is titled not comparable.
    """
    if set(tasks["task"]) != set(MEDIA_ROOTS):
        return None
    rows = tuple((name, percent(value / 100)) for name, value in PUBLISHED_ACCURACY.items())
    items = int(tasks.drop_duplicates("task")["n_items"].sum())
    title, note = "Published on MVBench", ""
    if items != MVBENCH_ITEMS:
        title += f": not comparable with {items:,} of {MVBENCH_ITEMS:,} items"
        note = (
            f"Not comparable: {items:,} items were scored here, {MVBENCH_ITEMS:,} in the publications (because of "
            "--items-per-task or left-out items). "
        )
    note += (
        "Accuracy over all items of MVBench's 20 tasks, of generated answers judged by VideoChat2's own check (generate and "
        "official check of --scorers), 16 frames. The models were trained otherwise than here; a benchmark that only has "
        "MVBench's format has other questions."
    )
    return Table(title, ("model", "average %"), rows, note, left=1)
