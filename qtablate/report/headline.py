"""What a report says first: the answer with its interval, what was compared, and what to beware of. From frames alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from qtablate.records import SweepFile
from qtablate.report.answers import ACCURACY
from qtablate.report.cautions import cautions
from qtablate.report.contrasts import INTERACTION, SIMPLE
from qtablate.report.families import ALL
from qtablate.report.labels import AXIS_LABELS, condition_label, shown_axes
from qtablate.report.recommendation import BEST, ERRORS, HIGHEST, above_chance
from qtablate.report.rows import Row, records_of
from qtablate.report.sentences import (
    comparison_label,
    fixed_levels_label,
    interval_text,
    predicate,
    shown_level,
)
from qtablate.report.tables.cells import plural, plural_range
from qtablate.report.verdicts import BETTER, EQUIVALENT, ITEMS_ONLY, UNDECIDED, WORSE
from qtablate.statistics.clustered import MIN_CLIPS
from qtablate.statistics.estimate import ALPHA
from qtablate.statistics.sequential import error_share
from qtablate.table import is_uninformative, number, p_text, percent, points

_NOTHING, _RECOMMENDED = "No recommendation", "Recommended"


@dataclass(frozen=True, slots=True)
class Headline:
    """The first lines of a report."""

    answer: str
    """A recommendation with its interval, or why there is none."""
    grid_alone: str = ""
    """What the grid says without its confirmation, where the answer rests on that."""
    highest: str = ""
    """The condition of the highest accuracy, what is not surely worse, and what cheaper one is as good."""
    scope: str = ""
    """What was compared."""
    warnings: tuple[str, ...] = ()

    @property
    def details(self) -> tuple[str, ...]:
        """What stands between the answer and what was compared, a paragraph each."""
        return tuple(filter(None, (self.grid_alone, self.highest)))

    @property
    def recommends(self) -> bool:
        """Whether the answer advises anything."""
        return not self.answer.startswith(_NOTHING)

    @property
    def recommends_one(self) -> bool:
        """Whether the answer begins with what to train with, instead of with what that depends on."""
        return self.answer.startswith(_RECOMMENDED)

    @property
    def lines(self) -> tuple[str, ...]:
        """All of it, a paragraph a line."""
        texts = (self.answer, *self.details, self.scope, *(f"Warning: {warning}" for warning in self.warnings))
        return tuple(filter(None, texts))


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
        return Headline(f"{_NOTHING}: no cell has finished.")
    rows = contrasts[(contrasts["task"] == ALL) & contrasts["outcome"].isin((ACCURACY, ""))]
    why_not = _why_no_recommendation(done, costs)
    of_grid = f"{_NOTHING}: {why_not}." if why_not else _answer(records_of(rows))
    confirmed = "" if why_not else _confirmed_answer(confirmation)
    answer = confirmed or of_grid
    grid_alone = f"The grid alone: {of_grid}" if confirmed else ""
    warnings = tuple(cautions(cells, summary, contrasts))
    return Headline(answer, grid_alone, _highest(costs, rows, confirmation), _scope(sweep, done), warnings)


def _why_no_recommendation(done: pd.DataFrame, costs: pd.DataFrame) -> str:
    """Say why nothing can be recommended whatever the contrasts say; empty where nothing stands against it."""
    clips = int(done["n_clusters"].max())
    if clips < MIN_CLIPS:
        return f"the items are of {clips} clips, fewer than {MIN_CLIPS}"
    if int(done["seeds_done"].max()) == 1 and len(done) > 1:
        return "one seed cannot tell an effect from what another seed would change"
    if len(done) < 2:
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
        f"{_RECOMMENDED}: {condition_label(selected, shown)}, which beats the baseline ({condition_label(baseline, shown)}) by "
        f"{points(selected['difference'], sign=False)} points ({interval_text(selected)}) on "
        f"{_fresh_seeds(selected)}, which took no part in its choice."
    )


def _fresh_seeds(row: Row) -> str:
    return f"{number(row['seeds'])} fresh seed{'s' * (row['seeds'] > 1)}"


def _answer(rows: Sequence[Row]) -> str:
    """Say what to train with, axis by axis, from the primary contrasts."""
    primary = [row for row in rows if row["primary"]]
    axes = list(dict.fromkeys(row["axis"] for row in primary))
    sentences = [
        _where_it_depends(axis, rows) or _of_axis(axis, [row for row in primary if row["axis"] == axis]) for axis in axes
    ]
    sentences.sort(key=lambda sentence: sentence.startswith(_NOTHING))
    return " ".join(sentences) or f"{_NOTHING}: no two finished conditions can be compared."


def _where_it_depends(axis: str, rows: Sequence[Row]) -> str:
    """Say that the effect of an axis depends on another one, with what is decided at its levels; empty where it does not.

    An average over the other axis would hide what changes its sign there.
    """
    decided = [row for row in rows if row["verdict"] in (BETTER, WORSE)]
    moderated = [row for row in decided if row["kind"] == INTERACTION and axis in (row["axis"], row["other_axis"])]
    if not moderated:
        return ""
    others = {row["other_axis"] if row["axis"] == axis else row["axis"] for row in moderated}
    simple = [predicate(row) for row in decided if row["kind"] == SIMPLE and row["axis"] == axis]
    known = "; ".join(simple) or "nothing is decided at its single levels"
    named = " and ".join(AXIS_LABELS[other] for other in sorted(others))
    return f"The effect of {AXIS_LABELS[axis]} depends on {named}: {known}."


def _of_axis(axis: str, rows: Sequence[Row]) -> str:
    """Say which level of an axis to train with, or that the data do not tell."""
    label = AXIS_LABELS[axis]
    if any(row["incorrect"] for row in rows):  # what an error costs: nothing to recommend
        return f"{_capital(label)}: {'; '.join(map(predicate, rows))}."
    better = [row for row in rows if row["verdict"] == BETTER]
    judged = [row for row in rows if row["verdict"] in (WORSE, EQUIVALENT)]
    undecided = [row for row in rows if row["verdict"] == UNDECIDED]
    if better:
        levels = " or ".join(shown_level(row, "level") for row in better)
        between = "; which of them is better is not tested here" if len(better) > 1 else ""
        rest = [f"Other levels: {'; '.join(map(predicate, [*judged, *undecided]))}."] if judged or undecided else []
        return " ".join([f"{_RECOMMENDED}: {label} {levels}: {'; '.join(map(predicate, better))}{between}.", *rest])
    if judged and not undecided:
        if all(row["verdict"] == EQUIVALENT for row in judged):
            return f"No difference that matters between the levels of {label}: {'; '.join(map(predicate, judged))}."
        return f"{_RECOMMENDED}: {label} {shown_level(rows[0], 'baseline')}: {'; '.join(map(predicate, judged))}."
    if not undecided:
        return f"{_NOTHING} on {label}: {'; '.join(map(predicate, rows))}."
    mde = min(float(row["mde"]) for row in undecided)
    unseen = (
        "no difference could have been seen"
        if is_uninformative(mde)
        else f"differences below {points(mde, sign=False)} points could not reliably have been seen"
    )
    nearest = "; ".join(f"{comparison_label(row)}: {points(row['difference'])} points{_interval(row)}" for row in undecided)
    known = f" Decided: {'; '.join(map(predicate, judged))}." if judged else ""
    return f"{_NOTHING} on {label}: {unseen} ({nearest}).{known}"


def _interval(row: Row) -> str:
    fixed = fixed_levels_label(row)
    return f", {interval_text(row)}, adjusted p {p_text(row['p_holm'])}" + (f", {fixed}" if fixed else "")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _highest(costs: pd.DataFrame, contrasts: pd.DataFrame, confirmation: pd.DataFrame) -> str:
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
        f"{_confirmed(best, confirmation, contrasts)}"
    )
    if len(words[UNDECIDED]) == len(costs) - 1:
        text += " By the grid's seeds no other condition is surely worse."
    elif words[UNDECIDED]:
        text += f" Not surely worse: {'; '.join(words[UNDECIDED])}."
    if words[EQUIVALENT]:
        text += f" Surely within the margin of it: {'; '.join(words[EQUIVALENT])}."
    cheaper = costs[(costs["equivalent_to_best"] == EQUIVALENT) & (costs["visual_tokens"] < best["visual_tokens"])]
    if len(cheaper):
        cheapest = records_of(cheaper.sort_values(["visual_tokens", "train_seconds"], kind="stable"))[0]
        text += (
            f" Equivalent and cheaper: {condition_label(cheapest, shown)}, {number(cheapest['visual_tokens'])} instead of "
            f"{number(best['visual_tokens'])} visual tokens."
        )
    return text


def _confirmed(best: Row, confirmation: pd.DataFrame, contrasts: pd.DataFrame) -> str:
    """Say what fresh seeds made of the selected accuracy, or that they would lower it."""
    rows = records_of(confirmation[confirmation["difference"].notna()])
    if not rows:
        if all(str(best[row["axis"]]) == str(row["baseline"]) for row in records_of(contrasts) if row["axis"] in best):
            return "An accuracy that was selected is too high on average."
        return (
            "An accuracy that was selected is too high on average: --confirm 3 trains this condition and the baseline with "
            "fresh seeds."
        )
    row = rows[0]
    shown = shown_axes(confirmation)
    same = all(str(row[axis]) == str(best[axis]) for axis in shown)
    subject = "it" if same else f"{condition_label(row, shown)}, an earlier choice,"
    return (
        f"With {_fresh_seeds(row)} {subject} has {percent(row['accuracy'])} %, {points(row['difference'])} points "
        f"against the baseline ({interval_text(row)})."
    )


def _scope(sweep: SweepFile, done: pd.DataFrame) -> str:
    """Say what was compared."""
    seeds = sorted({int(count) for count in done["seeds_done"]})
    items, clips = int(done["n_items"].max()), int(done["n_clusters"].max())
    return (
        f"Compared: {_counted(len(done), 'condition')}, {plural_range(seeds, 'seed')} each, {_counted(items, 'item')} of "
        f"{_counted(clips, 'clip')}; model {sweep.config.data.model}, benchmark {sweep.config.data.bench}, "
        f"{sweep.settings.budget_in_words} per cell. The answer holds for these.{_looks(len(sweep.planned_seeds), seeds)}"
    )


def _looks(planned: int, seeds: Sequence[int]) -> str:
    """Say what intervals and p-values are where seeds were added until all was decided."""
    if not planned:
        return ""
    shares = {count: error_share(count, planned) for count in seeds}
    alone = [f"{100 * (1 - ALPHA * share):.4g} % after {plural(count, 'seed')}" for count, share in shares.items() if share]
    of_one_look = (
        f"taken alone, such an interval has {' and '.join(alone)}" if alone else "before the first look there are none"
    )
    return (
        f" Seeds were added until the primary contrasts were decided, {planned} at most (--until-decided): p-values and "
        f"intervals of 95 % hold over all looks together; {of_one_look}."
    )


def _counted(count: int, noun: str) -> str:
    return f"{number(count)} {noun}{'s' * (count != 1)}"
