"""Tables of other ways to score the same cells: under controls, and by other scorers."""

import pandas as pd

from qtablate.controls import CONTROLS
from qtablate.prompts.mvbench import SCORERS
from qtablate.report.labels import axis_labels, level_labels, short_label, shown_axes
from qtablate.report.rows import records_of
from qtablate.table import ColumnNote, Table, number, percent

_OFFICIAL_CHECK = "official_check"
_SCORER_NOTES = {
    "likelihood": "the likelihood of each option's text",
    "letter": "the likelihood of each option's letter after 'Best option:('",
    "generate": "a greedy answer, parsed strictly",
    "circular": "by letter, correct only if correct in every rotation of the options",
    _OFFICIAL_CHECK: "the same answer by VideoChat2's own check, which accepts an empty answer",
}


def control_table(summary: pd.DataFrame) -> Table | None:
    """Return a row per condition with its accuracy under each control; None where only blind was run."""
    done = summary[summary["seeds_done"] > 0]
    ran = [control for control in CONTROLS if done[f"{control}_accuracy"].notna().any()]
    if len(ran) < 2:  # blind stands in the main table
        return None
    shown = shown_axes(summary)
    rows = [
        (
            *level_labels(row, shown),
            percent(row["accuracy"]),
            *(percent(row[f"{control}_accuracy"]) for control in ran),
            *(number(row[name], 1) for name in ("eval_seconds", "control_seconds")),
        )
        for row in records_of(done)
    ]
    note = (
        "Accuracy in % on the same items with another input, mean over seeds: "
        + "; ".join(f"{control}: {CONTROLS[control]}" for control in ran)
        + "."
    )
    about = (
        ColumnNote(("eval s",), "eval s: seconds to score a cell without a control."),
        ColumnNote(("controls s",), "controls s: seconds to score it under all controls."),
    )
    columns = (*axis_labels(shown), "accuracy %", *ran, "eval s", "controls s")
    return Table("Controls", columns, tuple(rows), note, optional=("eval s", "controls s"), about=about)


def scorer_table(agreement: pd.DataFrame) -> Table | None:
    """Return a row per condition with its accuracy by each scorer and their agreement; None without any."""
    if agreement.empty:
        return None
    shown = shown_axes(agreement)
    ran = [scorer for scorer in (*SCORERS, _OFFICIAL_CHECK) if agreement[scorer].notna().any()]
    pairs = [name for name in agreement.columns if str(name).endswith("_agree") and agreement[name].notna().any()]
    parsing = [name for name in ("unparsed", "official_check_differs") if agreement[name].notna().any()]
    rows = [
        (*level_labels(row, shown), *(percent(row[name]) for name in (*ran, *parsing, *pairs))) for row in records_of(agreement)
    ]
    agreeing = [name.removesuffix("_agree").replace("_", "=") for name in pairs]
    heads = [name.replace("official_check_differs", "differs") for name in parsing]
    columns = (*axis_labels(shown), *(scorer.replace("_", " ") for scorer in ran), *heads, *agreeing)
    narrow = tuple(name for name in (*agreeing, "differs", "unparsed") if name in columns)
    about = (
        ColumnNote(("unparsed",), "unparsed: % of generated answers that name no option, counted as incorrect."),
        ColumnNote(("differs",), "differs: % on which the strict parser and VideoChat2's check disagree."),
        ColumnNote(tuple(agreeing), "a=b: % of items on which both scorers choose the same option."),
    )
    return Table("Scorer agreement", columns, tuple(rows), _scorer_note(agreement, ran), optional=narrow, about=about)


def _scorer_note(agreement: pd.DataFrame, ran: list[str]) -> str:
    """Explain the table of scorers that were `ran`."""
    scorers = "; ".join(f"{scorer.replace('_', ' ')}: {_SCORER_NOTES[scorer]}" for scorer in ran)
    note = f"Accuracy in % by each scorer (standard errors: scorer_agreement.csv). {scorers}."
    shown = shown_axes(agreement)
    lettered = [row for row in records_of(agreement) if isinstance(row["predicted_letters"], str)]
    if lettered:
        predicted = ", ".join(f"{short_label(row, shown)}: {row['predicted_letters']}" for row in lettered)
        note += f" Predicted letters in %: {predicted}; gold: {lettered[0]['gold_letters']}."
    return note
