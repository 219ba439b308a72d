"""The data of the item browser: every item with what each condition and each seed answered, as compact JSON.

    {"axes": "extra tokens/accum", "conditions": ["0/1", ...], "seeds": [[1, 2, 3], ...], "tasks": [...],
     "items": [[name, task, clip, question, [option, ...], gold, group, [probabilities, ...], [answers, ...]], ...]}

`clip` is an index into the pictures, or -1. For each condition, `probabilities` has two digits of percent per option, mean over
its seeds ("" without likelihoods), and `answers` a character per seed: the number of the option, or "-".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qtablate.axes import TOKENS
from qtablate.datatypes import Item
from qtablate.report.cell_answers import CellAnswers, Texts, common_items, read_cell_answers
from qtablate.report.items import MAJORITY
from qtablate.report.labels import axis_labels, short_label, shown_axes
from qtablate.report.results import Results
from qtablate.report.rows import Row, records_of
from qtablate.statistics.estimate import Floats

ALL_RIGHT, ALL_WRONG, MORE_TOKENS, DISAGREE = "all", "none", "more", "disagree"
"""Groups of items. MORE_TOKENS: right under a condition with more extra tokens, wrong under all that have the fewest."""
_NOT_SCORED = "-"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Answered:
    """What all finished cells of a sweep answered to the items that all of them were asked."""

    axes: str
    """Labels of the axes that name a condition."""
    labels: tuple[str, ...]
    """Of the conditions."""
    seeds: tuple[tuple[int, ...], ...]
    """Of each condition."""
    tokens: tuple[int, ...]
    """Extra query tokens of each condition."""
    items: tuple[str, ...]
    tasks: tuple[str, ...]
    """Of each item."""
    clips: tuple[str, ...]
    """Of each item."""
    gold: NDArray[np.int64]
    """(items,)."""
    options: NDArray[np.int64]
    """(items,): number of options."""
    predicted: tuple[NDArray[np.int64], ...]
    """(items, seeds) of each condition; -1 where an answer names no option."""
    probabilities: tuple[Floats, ...]
    """(items, options) of each condition, mean over seeds, 0 beyond an item's last option; (items, 0) without likelihoods."""

    def right(self) -> NDArray[np.bool_]:
        """Return (items, conditions): whether most seeds of a condition answer the item."""
        columns = [(predicted == self.gold[:, None]).mean(axis=1) > MAJORITY for predicted in self.predicted]
        return np.stack(columns, axis=1)

    def groups(self) -> list[str]:
        """Return the group of every item."""
        right = self.right()
        fewest = np.array(self.tokens) == min(self.tokens)
        more = ~right[:, fewest].any(axis=1) & right[:, ~fewest].any(axis=1)
        named = np.where(more, MORE_TOKENS, DISAGREE)
        return [str(one) for one in np.where(right.all(axis=1), ALL_RIGHT, np.where(~right.any(axis=1), ALL_WRONG, named))]


def read_answered(results: Results) -> Answered | None:
    """Read the answers of all finished cells; None where there are none."""
    cells = results.cells[results.cells["status"] == "ok"]
    if results.tables_only or cells.empty:
        return None
    read = {str(row["key"]): read_cell_answers(results.store, str(row["key"])) for row in records_of(cells)}
    first = next(iter(read.values()))
    names = common_items(list(read.values()))
    if not len(names):
        return None
    shown = shown_axes(results.cells)
    of_condition: dict[str, list[Row]] = {}
    for row in records_of(cells):
        of_condition.setdefault(short_label(row, shown), []).append(row)
    groups = [[read[str(row["key"])] for row in rows] for rows in of_condition.values()]
    places = first.places(names)
    return Answered(
        "/".join(axis_labels(shown)),
        tuple(of_condition),
        tuple(tuple(int(row["seed"]) for row in rows) for rows in of_condition.values()),
        tuple(int(rows[0][TOKENS.column]) for rows in of_condition.values()),
        tuple(map(str, names)),
        tuple(map(str, first.tasks[places])),
        tuple(map(str, first.clusters[places])),
        first.gold[places],
        first.options[places],
        tuple(np.stack([one.predicted[one.places(names)] for one in group], axis=1) for group in groups),
        tuple(_mean_probabilities(group, names) for group in groups),
    )


def _mean_probabilities(group: Sequence[CellAnswers], names: Texts) -> Floats:
    """Return (items, options): the probability of every option, mean over the seeds of a condition."""
    if not all(one.scores.shape[1] for one in group):
        return np.empty((len(names), 0))
    seeds = [one.scores[one.places(names)] for one in group]
    with np.errstate(invalid="ignore"):  # scores that are no numbers have no probabilities
        shares = [np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)) for scores in seeds]
    return np.asarray(np.mean(shares, axis=0), np.float64)


def browser_data(answered: Answered, items: Mapping[str, Item], pictures: Mapping[str, int]) -> dict[str, Any]:
    """Return the data of the browser.

    Args:
        answered: what the cells answered.
        items: the benchmark's items by name; empty where it cannot be opened: then there are no texts.
        pictures: number of each clip's picture; clips without one are left out.
    """
    tasks = list(dict.fromkeys(answered.tasks))
    groups = answered.groups()
    texts = [_percents(shares) for shares in answered.probabilities]
    rows = []
    for number, name in enumerate(answered.items):
        item = items.get(name)
        rows.append(
            [
                name,
                tasks.index(answered.tasks[number]),
                pictures.get(answered.clips[number], -1),
                item.question if item else "",
                list(item.options) if item else [],
                int(answered.gold[number]),
                groups[number],
                [percents[number][: 2 * answered.options[number]] for percents in texts],
                ["".join(map(_digit, predicted[number])) for predicted in answered.predicted],
            ]
        )
    return {"axes": answered.axes, "conditions": answered.labels, "seeds": answered.seeds, "tasks": tasks, "items": rows}


def _percents(shares: Floats) -> list[str]:
    """Return two digits of percent per option, joined, for each item; 99 stands for more, and nothing for what is no number."""
    digits = [f"{percent:02d}" for percent in range(100)]
    known = [bool(row.all()) for row in np.isfinite(shares)]
    rounded = np.minimum(99, np.rint(100 * np.nan_to_num(shares)).astype(np.int64))
    joined = ["".join([digits[percent] for percent in row]) for row in rounded.tolist()]
    return [text if one else "" for text, one in zip(joined, known, strict=True)]


def _digit(option: int) -> str:
    return _DIGITS[option] if 0 <= option < len(_DIGITS) else _NOT_SCORED
