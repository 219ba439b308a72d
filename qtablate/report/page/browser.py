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
import pandas as pd
from numpy.typing import NDArray

from qtablate.axes import TOKENS
from qtablate.controls import FULL
from qtablate.datatypes import Item
from qtablate.report.items import MAJORITY
from qtablate.report.labels import axis_labels, short_label, shown_axes
from qtablate.report.results import Results
from qtablate.report.rows import Row, records_of
from qtablate.statistics.estimate import Floats

ALL_RIGHT, ALL_WRONG, MORE_TOKENS, DISAGREE = "all", "none", "more", "disagree"
"""Groups of items. MORE_TOKENS: right under a condition with more extra tokens, wrong under all that have the fewest."""
_NOT_SCORED = "-"
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_COLUMNS = ("control", "item", "task", "cluster", "gold", "predicted", "options", "scores")


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
    predicted: tuple[NDArray[np.int64], ...]
    """(items, seeds) of each condition; -1 where an answer names no option."""
    probabilities: tuple[tuple[Floats, ...], ...]
    """Of each condition and item: of each option, mean over seeds; empty without likelihoods."""

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
    frames = {str(row["key"]): _answers(results, str(row["key"])) for row in records_of(cells)}
    names = list(next(iter(frames.values())).index)
    common = set(names).intersection(*(frame.index for frame in frames.values()))
    names = [name for name in names if name in common]
    if not names:
        return None
    frames = {key: frame.loc[names] for key, frame in frames.items()}
    first = next(iter(frames.values()))
    shown = shown_axes(results.cells)
    of_condition: dict[str, list[Row]] = {}
    for row in records_of(cells):
        of_condition.setdefault(short_label(row, shown), []).append(row)
    groups = [[frames[str(row["key"])] for row in rows] for rows in of_condition.values()]
    return Answered(
        "/".join(axis_labels(shown)),
        tuple(of_condition),
        tuple(tuple(int(row["seed"]) for row in rows) for rows in of_condition.values()),
        tuple(int(rows[0][TOKENS.column]) for rows in of_condition.values()),
        tuple(names),
        tuple(map(str, first["task"])),
        tuple(map(str, first["cluster"])),
        first["gold"].to_numpy(np.int64),
        tuple(np.stack([_predicted(frame) for frame in group], axis=1) for group in groups),
        tuple(_mean_probabilities(group) for group in groups),
    )


def _answers(results: Results, key: str) -> pd.DataFrame:
    frame = pd.read_csv(results.store.cell_file(key, "answers.csv"), usecols=list(_COLUMNS))
    return frame[frame["control"] == FULL].set_index("item")


def _predicted(frame: pd.DataFrame) -> NDArray[np.int64]:
    return frame["predicted"].fillna(-1).to_numpy(np.int64)


def _mean_probabilities(group: Sequence[pd.DataFrame]) -> tuple[Floats, ...]:
    """Return the probability of every option of every item, mean over the seeds of a condition."""
    seeds = [[_softmax(str(text)) for text in frame["scores"]] for frame in group]
    return tuple(np.mean(of_item, axis=0) for of_item in zip(*seeds, strict=True))


def _softmax(scores: str) -> Floats:
    if ";" not in scores:
        return np.zeros(0)
    values = np.array(scores.split(";"), np.float64)
    shares: Floats = np.exp(values - np.logaddexp.reduce(values))
    return shares


def browser_data(answered: Answered, items: Mapping[str, Item], pictures: Mapping[str, int]) -> dict[str, Any]:
    """Return the data of the browser.

    Args:
        answered: what the cells answered.
        items: the benchmark's items by name; empty where it cannot be opened: then there are no texts.
        pictures: number of each clip's picture; clips without one are left out.
    """
    tasks = list(dict.fromkeys(answered.tasks))
    groups = answered.groups()
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
                [_percents(of_condition[number]) for of_condition in answered.probabilities],
                ["".join(map(_digit, predicted[number])) for predicted in answered.predicted],
            ]
        )
    return {"axes": answered.axes, "conditions": answered.labels, "seeds": answered.seeds, "tasks": tasks, "items": rows}


def _percents(shares: Floats) -> str:
    return "".join(f"{min(99, round(100 * share)):02d}" for share in shares)


def _digit(option: int) -> str:
    return _DIGITS[option] if 0 <= option < len(_DIGITS) else _NOT_SCORED
