"""What a report says first: the answer with its interval, what was compared, and what to beware of. From frames alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qtablate.records import SweepFile
from qtablate.report.answers import ACCURACY
from qtablate.report.cautions import cautions
from qtablate.report.contrasts import INTERACTION
from qtablate.report.families import ALL
from qtablate.report.labels import AXIS_LABELS, condition_label, shown_axes
from qtablate.report.recommendation import BEST, ERRORS, HIGHEST, above_chance
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import (
    comparison_label,
    contrast_sentence,
    fixed_levels_label,
    interval_text,
    predicate,
    shown_level,
)
from qtablate.report.verdicts import BETTER, EQUIVALENT, ITEMS_ONLY, UNDECIDED, WORSE
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.table import is_uninformative, number, percent, points

_NOTHING = "No recommendation"


@dataclass(frozen=True, slots=True)
class Headline:
    """The first lines of a report."""

    answer: str
    """A recommendation with its interval, or why there is none."""
    details: tuple[str, ...]
    """The condition of the highest accuracy, and what was compared; a sentence or two each."""
    warnings: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it, a paragraph a line."""
        return (self.answer, *self.details, *(f"Warning: {warning}" for warning in self.warnings))


def headline(
    sweep: SweepFile,
    cells: pd.DataFrame,
    summary: pd.DataFrame,
    contrasts: pd.DataFrame,
    costs: pd.DataFrame,
    confirmation: pd.DataFrame,
) -> Headline:
    """Say what a sweep's frames support.

    Args:
        sweep: its sweep.json.
        cells: a row per cell.
        summary: a row per condition.
        contrasts: a row per outcome, contrast and task.
        costs: a row per finished condition.
        confirmation: a row for each of the two conditions that fresh seeds confirm; empty without --confirm.
    """
    done = summary[summary["seeds_done"] > 0]
    if done.empty:
        return Headline(f"{_NOTHING}: no cell has finished.", (), ())
    rows = contrasts[(contrasts["task"] == ALL) & contrasts["outcome"].isin((ACCURACY, ""))]
    why_not = _why_no_recommendation(done, costs)
    of_grid = f"{_NOTHING}: {why_not}." if why_not else _answer(records_of(rows))
    confirmed = "" if why_not else _confirmed_answer(confirmation)
    answer = confirmed or of_grid
    details = [f"The grid alone: {of_grid}" if confirmed else "", _highest(costs, confirmation), _scope(sweep, done)]
    return Headline(answer, tuple(filter(None, details)), tuple(cautions(cells, summary, contrasts)))


def _why_no_recommendation(done: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Say why nothing can be recommended whatever the contrasts say; empty where nothing stands against it."""
    clips = int(done["n_clusters"].max())
    if clips < MIN_CLIPS:
        return f"the items are of {clips} clips, fewer than {MIN_CLIPS}"
    if len(costs) < 2:
        return "there is one condition, and nothing to compare it with"
    if not any(above_chance(row) for row in records_of(done)):
        blind = " and its blind control" if done["visual_gain"].notna().any() else ""
        return f"no condition is above chance ({percent(done['chance'].iloc[0])} %){blind} by {ERRORS} standard errors"
    return ""


def _confirmed_answer(confirmation: pd.DataFrame) -> str:
    """Recommend the selected condition where fresh seeds confirm that it beats the baseline; empty elsewhere."""
    rows = records_of(confirmation)
    if not rows or pd.isna(rows[0]["ci_low"]) or rows[0]["ci_low"] <= 0 or rows[0]["uncertainty"] == ITEMS_ONLY:
        return ""
    selected, baseline = rows
    shown = shown_axes(confirmation)
    return (
        f"Recommended: {condition_label(selected, shown)}, which beats the baseline ({condition_label(baseline, shown)}) by "
        f"{points(selected['difference'], sign=False)} points ({interval_text(selected).removeprefix(', ')}) on "
        f"{_fresh_seeds(selected)}, which took no part in its choice."
    )


def _fresh_seeds(row: Row) -> str:
    return f"{number(row['seeds'])} fresh seed{'s' * (row['seeds'] > 1)}"


def _answer(rows: Sequence[Row]) -> str:
    """Say what to train with, axis by axis, from the primary contrasts."""
    primary = [row for row in rows if row["primary"]]
    axes = list(dict.fromkeys(row["axis"] for row in primary))
    sentences = [_of_axis(axis, [row for row in primary if row["axis"] == axis]) for axis in axes]
    sentences.sort(key=lambda sentence: sentence.startswith(_NOTHING))
    if not sentences:
        return f"{_NOTHING}: no two finished conditions can be compared."
    moderated = [row for row in rows if row["kind"] == INTERACTION and row["verdict"] in (BETTER, WORSE)]
    also = [f"The effects are not additive: {contrast_sentence(row)}" for row in moderated]
    return " ".join([*sentences, *also])


def _of_axis(axis: str, rows: Sequence[Row]) -> str:
    """Say which level of an axis to train with, or that the data do not tell."""
    label = AXIS_LABELS[axis]
    if any(row["incorrect"] for row in rows):  # what an error costs: nothing to recommend
        return f"{_capital(label)}: {'; '.join(map(predicate, rows))}."
    better = [row for row in rows if row["verdict"] == BETTER]
    if better:
        best = max(better, key=lambda row: float(row["difference"]))
        rest = [row for row in rows if row["verdict"] == UNDECIDED]
        open_ = f" Undecided: {', '.join(comparison_label(row) for row in rest)}." if rest else ""
        return f"{_recommended(label, shown_level(best, 'level'), [best])}{open_}"
    judged = [row for row in rows if row["verdict"] in (WORSE, EQUIVALENT)]
    undecided = [row for row in rows if row["verdict"] == UNDECIDED]
    if judged and not undecided:
        baseline = shown_level(rows[0], "baseline")
        if all(row["verdict"] == EQUIVALENT for row in judged):
            return f"{_capital(label)} makes no difference that matters: {'; '.join(map(predicate, judged))}."
        return _recommended(label, baseline, judged)
    if not undecided:
        return f"{_NOTHING} on {label}: {'; '.join(map(predicate, rows))}."
    mde = min(float(row["mde"]) for row in undecided)
    unseen = (
        "no difference could have been seen"
        if is_uninformative(mde)
        else f"differences below {points(mde, sign=False)} points could not reliably have been seen"
    )
    nearest = "; ".join(f"{comparison_label(row)}: {points(row['difference'])} points{_interval(row)}" for row in undecided)
    known = f" {_capital('; '.join(map(predicate, judged)))}." if judged else ""
    return f"{_NOTHING} on {label}: {unseen} ({nearest}).{known}"


def _recommended(label: str, level: str, rows: Sequence[Row]) -> str:
    """Recommend a level by what it beats, and what is as good."""
    clauses = [predicate(row) for row in rows]
    beats = [clause.removeprefix(f"{level} ") for clause in clauses if clause.startswith(f"{level} beats ")]
    others = [clause for clause in clauses if not clause.startswith(f"{level} beats ")]
    which = f", which {' and '.join(beats)}" if beats else ""
    return f"Recommended: {label} {level}{which}." + "".join(f" {_capital(clause)}." for clause in others)


def _interval(row: Row) -> str:
    fixed = fixed_levels_label(row)
    return interval_text(row) + (f", {fixed}" if fixed else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _highest(costs: pd.DataFrame, confirmation: pd.DataFrame) -> str:
    """Name the condition of the highest accuracy, what is not surely worse, and what cheaper one is as good."""
    costs = costs[costs["incorrect"] == ""]
    top = records_of(costs[costs["equivalent_to_best"].isin((BEST, HIGHEST))])
    if not top or len(costs) < 2:
        return ""
    shown, best = shown_axes(costs), top[0]
    words = {
        word: [condition_label(row, shown) for row in records_of(costs[costs["equivalent_to_best"] == word])]
        for word in (UNDECIDED, EQUIVALENT)
    }
    text = (
        f"Highest accuracy: {percent(best['accuracy'])} % with {condition_label(best, shown)}, selected from {len(costs)}. "
        f"{_confirmed(confirmation)}"
    )
    if len(words[UNDECIDED]) == len(costs) - 1:
        text += " No other condition is surely worse."
    elif words[UNDECIDED]:
        text += f" Not surely worse: {'; '.join(words[UNDECIDED])}."
    cheaper = costs[(costs["equivalent_to_best"] == EQUIVALENT) & (costs["visual_tokens"] < best["visual_tokens"])]
    if len(cheaper):
        cheapest = records_of(cheaper.sort_values(["visual_tokens", "train_seconds"], kind="stable"))[0]
        text += (
            f" Equivalent and cheaper: {condition_label(cheapest, shown)}, {number(cheapest['visual_tokens'])} instead of "
            f"{number(best['visual_tokens'])} visual tokens."
        )
    return text


def _confirmed(confirmation: pd.DataFrame) -> str:
    """Say what fresh seeds made of the selected accuracy, or that they would lower it."""
    rows = records_of(confirmation[confirmation["difference"].notna()])
    if not rows:
        return (
            "An accuracy that was selected is too high on average: --confirm 3 trains this condition and the baseline with "
            "fresh seeds."
        )
    row = rows[0]
    return (
        f"With {_fresh_seeds(row)} the selected condition has {percent(row['accuracy'])} %, {points(row['difference'])} points "
        f"against the baseline ({interval_text(row).removeprefix(', ')})."
    )


def _scope(sweep: SweepFile, done: pd.DataFrame) -> str:
    """Say what was compared."""
    seeds = sorted({int(count) for count in done["seeds_done"]})
    span = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return (
        f"Compared: {len(done)} conditions, {span} seed{'s' * (seeds[-1] > 1)} each, {number(done['n_items'].max())} items of "
        f"{number(done['n_clusters'].max())} clips; model {sweep.config.data.model}, benchmark {sweep.config.data.bench}, "
        f"{sweep.settings.budget_in_words} per cell. It holds for these, and for runs this short."
    )
