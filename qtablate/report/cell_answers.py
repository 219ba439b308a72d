"""The answers of one finished cell as arrays: read once, and small enough to keep those of a whole sweep."""

import io
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qtablate.controls import FULL
from qtablate.report.answer_rows import Rows
from qtablate.statistics.estimate import Floats
from qtablate.store import Store

Texts = NDArray[np.object_]
_COLUMNS = ("control", "item", "task", "cluster", "gold", "predicted", "correct", "options", "scores")
_TEXT_COLUMNS = ("control", "item", "task", "cluster", "scores")
_KEPT = 4096
"""Cells whose answers are kept in memory: about 100 kB each for 2,000 items and six controls."""


@dataclass(frozen=True, slots=True, eq=False)
class CellAnswers:
    """What a cell answered to each item. Cells that answered the same items share the arrays of texts."""

    items: Texts
    """Names, in the order of the file."""
    tasks: Texts
    clusters: Texts
    """Clip of each item."""
    gold: NDArray[np.int64]
    predicted: NDArray[np.int64]
    """Without a control; -1 where an answer names no option."""
    options: NDArray[np.int64]
    """Number of each item's options."""
    correct: Mapping[str, NDArray[np.float32]]
    """1 and 0 for every item, by control; NaN where an item has no answer under a control."""
    scores: Floats
    """(items, most options): log-likelihood of each option, -inf beyond the last; (items, 0) where an answer has none."""

    def places(self, items: Texts) -> NDArray[np.int64]:
        """Return the places of these items."""
        if items is self.items:
            return np.arange(len(items))
        return np.asarray(pd.Index(self.items).get_indexer(pd.Index(items)), np.int64)


def read_cell_answers(store: Store, key: str) -> CellAnswers:
    """Read the answers of a finished cell; a file that has not changed is read once."""
    path = store.cell_file(key, "answers.csv")
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(_KEPT)
def _read(path: Path, modified: int, size: int) -> CellAnswers:
    """Read a file; the time of its last change and its size are there to tell it from what it was."""
    content = path.read_bytes()
    for known in _LAYOUTS:
        if alike := known.read(content):
            return alike
    answers = _parse(content)
    if layout := _Layout.of(content, answers):
        _LAYOUTS.appendleft(layout)
    return answers


def _parse(content: bytes) -> CellAnswers:
    """Read a file of any form."""
    texts: dict[str, Any] = dict.fromkeys(_TEXT_COLUMNS, str)
    missing = {name: [""] for name in _COLUMNS if name not in _TEXT_COLUMNS}  # an item may be called NA, or 007
    file = io.BytesIO(content)
    frame = pd.read_csv(file, usecols=list(_COLUMNS), dtype=texts, keep_default_na=False, na_values=missing)
    full = frame[frame["control"] == FULL]
    items = _shared(full["item"])
    by_control = {str(control): group for control, group in frame.groupby("control", sort=False)}
    return CellAnswers(
        items,
        _shared(full["task"]),
        _shared(full["cluster"]),
        full["gold"].to_numpy(np.int64),
        full["predicted"].fillna(-1).to_numpy(np.int64),
        full["options"].to_numpy(np.int64),
        {control: _aligned(group, items) for control, group in by_control.items()},
        _scores([text.encode() for text in full["scores"]]),
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A file whose rows are items under one control after another, and what it has in common with files like it."""

    rows: Rows
    first: CellAnswers

    @classmethod
    def of(cls, content: bytes, answers: CellAnswers) -> "_Layout | None":
        """Return the layout of a file; None where its rows stand in another order, or are not plain."""
        rows = Rows.of(content)
        if rows is None or next(iter(answers.correct), "") != FULL:
            return None
        names = [f"{control},{item}," for control in answers.correct for item in answers.items]
        of_rows = [b",".join(one.split(b",")[:2]).decode() + "," for one in rows.beginnings]
        return cls(rows, answers) if names == of_rows else None

    def read(self, content: bytes) -> CellAnswers | None:
        """Read a file of this layout; None where it has another."""
        first, count = self.first, len(self.first.items)
        plain = self.rows.read(content, scored=count)
        if plain is None:
            return None
        correct = plain.correct.astype(np.float32).reshape(-1, count)
        return CellAnswers(
            first.items,
            first.tasks,
            first.clusters,
            first.gold,
            plain.predicted[:count].copy(),  # not the whole file's
            first.options if np.array_equal(first.options, plain.options[:count]) else plain.options[:count].copy(),
            dict(zip(first.correct, correct, strict=True)),
            _scores(plain.scores),
        )


_LAYOUTS: deque[_Layout] = deque(maxlen=4)
"""Of the files that were read last: cells of one sweep are alike, two sweeps are compared."""
_TEXTS: dict[tuple[Any, ...], Texts] = {}
"""The arrays of texts that cells share."""


def _shared(column: "pd.Series[Any]") -> Texts:
    values = column.to_numpy(object)
    return _TEXTS.setdefault(tuple(values), values)


def _aligned(answers: pd.DataFrame, items: Texts) -> NDArray[np.float32]:
    """Return whether the answers are correct, in the order of `items`."""
    names = answers["item"].to_numpy(object)
    correct = answers["correct"].to_numpy(np.float32)
    if len(names) == len(items) and bool((names == items).all()):
        return correct
    return pd.Series(correct, names).reindex(items).to_numpy(np.float32)


def _scores(texts: Sequence[bytes]) -> Floats:
    """Parse the scores of each answer's options, which semicolons join."""
    joined = np.frombuffer(b"\n".join([*texts, b""]), np.uint8)
    separators = joined[(joined == ord(";")) | (joined == ord("\n"))]
    counts = np.diff(np.flatnonzero(separators == ord("\n")), prepend=-1)
    if not len(texts) or counts.min() < 2:
        return np.empty((len(texts), 0))
    out = np.full((len(texts), counts.max()), -np.inf)
    out[np.arange(counts.max()) < counts[:, None]] = np.array(b";".join(texts).decode().split(";"), dtype=np.float64)
    return out


def common_items(read: Sequence[CellAnswers]) -> Texts:
    """Return the items that all cells have answered, in the order of the first one's."""
    items = read[0].items
    if all(answers.items is items for answers in read):
        return items
    common = set(items).intersection(*(set(answers.items) for answers in read))
    return np.array([item for item in items if item in common], dtype=object)


def all_items(cells: Sequence[CellAnswers]) -> tuple[Texts, Texts]:
    """Return the items that any of these cells has answered, and their clips."""
    if all(cell.items is cells[0].items for cell in cells):
        return cells[0].items, cells[0].clusters
    clips = {item: clip for cell in cells for item, clip in zip(cell.items, cell.clusters, strict=True)}
    return np.array(list(clips), object), np.array(list(clips.values()), object)


def mean_correct(cells: Sequence[CellAnswers], control: str, items: Texts) -> Floats | None:
    """Return, for each item, the mean over the cells that have answered it; None where no cell was run under the control."""
    columns = []
    for cell in cells:
        if control in cell.correct:
            places = cell.places(items)
            columns.append(np.where(places < 0, np.nan, cell.correct[control][places].astype(np.float64)))
    if not columns:
        return None
    stacked = np.stack(columns)
    counts = np.isfinite(stacked).sum(axis=0)
    return np.where(counts, np.nansum(stacked, axis=0) / np.maximum(counts, 1), np.nan)


def correct_option_measures(answers: CellAnswers) -> Floats:
    """Return the probability of the correct option, and how far it is ahead of the likeliest other one in nats: (items, 2).

    Args:
        answers: with scores.
    """
    gold = answers.gold[:, None]
    correct = np.take_along_axis(answers.scores, gold, axis=1)[:, 0]
    others = answers.scores.copy()
    np.put_along_axis(others, gold, -np.inf, axis=1)
    with np.errstate(invalid="ignore"):  # scores that are no numbers, which a model may give, stay NaN
        probability = np.exp(correct - np.logaddexp.reduce(answers.scores, axis=1))
        return np.stack([probability, correct - others.max(axis=1)], axis=1)
