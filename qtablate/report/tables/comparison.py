"""The table of two results folders compared."""

from collections import Counter
from collections.abc import Sequence

from qtablate.report.compare import Comparison
from qtablate.report.labels import axis_labels, condition_label, level_labels, shown_axes
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import interval_text
from qtablate.report.tables.cells import INTERVAL, interval, plural, too_few_note, verdict_text
from qtablate.report.verdicts import IDENTICAL, ITEMS_ONLY
from qtablate.table import Table, p_text, percent, points

NO_VERDICT = "without a verdict"


def comparison_table(comparison: Comparison) -> Table:
    """Return a row per condition that both folders have finished: the second folder minus the first."""
    shown, records = shown_axes(comparison.frame), records_of(comparison.frame)
    several_batches = comparison.frame["effective_batch_size"].nunique() > 1
    rows = tuple(
        (
            *((str(row["effective_batch_size"]),) if several_batches else ()),
            *level_labels(row, shown),
            percent(row["accuracy_first"]),
            percent(row["accuracy_second"]),
            points(row["difference"]),
            "" if comparison.same_results else interval(row),
            p_text(row["p_holm"]),
            verdict_text(row),
            f"{row['seeds_first']} and {row['seeds_second']}",
        )
        for row in records
    )
    columns = (
        *(("batch",) if several_batches else ()),
        *axis_labels(shown),
        "first %",
        "second %",
        "points",
        INTERVAL,
        "p",
        "verdict",
        "seeds",
    )
    if comparison.same_results:
        same_folder = comparison.first == comparison.second
        whose = f"{comparison.first} beside itself" if same_folder else f"{comparison.first} and {comparison.second}"
        title = f"{whose}: the same results"
        note = "Both hold the same cells with the same answers: no setting and no answer differs."
    else:
        title = f"{comparison.first} (first) and {comparison.second} (second): second minus first"
        note = " ".join(_notes(comparison, records, rows))
    return Table(title, columns, rows, note, optional=("seeds", "p"))


def comparison_sentence(comparison: Comparison) -> str:
    """Say in a sentence how the second folder differs from the first."""
    if comparison.same_results:
        return f"{comparison.first} and {comparison.second} hold the same results."
    records = records_of(comparison.frame)
    counts = Counter(str(row["verdict"]) or NO_VERDICT for row in records)
    said = ", ".join(f"{verdict} in {count}" for verdict, count in counts.most_common())
    largest = max(records, key=lambda row: abs(row["difference"]))
    name = condition_label(largest, shown_axes(comparison.frame))
    return (
        f"{comparison.second} against {comparison.first}: {said} of {plural(len(records), 'condition')}. The largest "
        f"difference is {points(largest['difference'])} points ({interval_text(largest)}) with {name}."
    )


def _notes(comparison: Comparison, records: Sequence[Row], rows: Sequence[Sequence[str]]) -> list[str]:
    """Explain a comparison, a sentence each."""
    notes = ["Points: second minus first; better means that the second is better."]
    if not comparison.same_items:
        notes.append("The two did not score the same items: their means are independent.")
    elif all(row["paired"] for row in records):
        notes.append("Paired by item and seed.")
    else:
        notes.append("Paired by item and seed where a seed is common, else two independent means.")
    if any(row["paired"] and {row["seeds_first"], row["seeds_second"]} != {row["seeds"]} for row in records):
        notes.append("Points are those of the seeds in common.")
    margin = points(records[0]["margin"], sign=False)
    notes.append(
        f"p: adjusted (Holm) over the rows. Equivalent: surely within ±{margin} points (--margin)."
        + too_few_note(text for row in rows for text in row)
    )
    if any(row["verdict"] == IDENTICAL for row in records):
        notes.append("Identical: the same items are correct at every seed; other items may still show a difference.")
    if any(row["uncertainty"] == ITEMS_ONLY for row in records):
        notes.append("ONE SEED: the intervals hold the uncertainty of the items only.")
    settings = f"Settings that differ (first -> second): {'; '.join(comparison.differing)}."
    notes.append(settings if comparison.differing else "No setting differs.")
    if comparison.budgets[0] != comparison.budgets[1]:
        first, second = comparison.budgets
        notes.append(f"Not comparable: the budget of the first is {first} per cell, that of the second {second}.")
    if any(comparison.only):
        first_only, second_only = comparison.only
        notes.append(
            f"Not compared: {first_only} conditions that only the first has and {second_only} that only the second has."
        )
    return notes
