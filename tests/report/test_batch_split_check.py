"""The check that runs which split one effective batch in different ways coincide."""

import csv
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from qtablate.axes import Condition
from qtablate.report import tables
from qtablate.report.batch_split_check import split_pairs
from qtablate.store import Store


def written(root: Path, key: str, losses: list[float], predicted: list[int], scores: str = "-1;-3") -> None:
    folder = root / "cells" / key
    folder.mkdir(parents=True)
    with (folder / "train.csv").open("w") as file:
        csv.writer(file).writerows([["loss"], *([loss] for loss in losses)])
    with (folder / "answers.csv").open("w") as file:
        rows = [["full", f"i{n}", "t", f"c{n}", 0, p, int(p == 0), 2, scores] for n, p in enumerate(predicted)]
        heads = ["control", "item", "task", "cluster", "gold", "predicted", "correct", "options", "scores"]
        csv.writer(file).writerows([heads, *rows])


def cell(key: str, accum: int, micro: int, status: str = "ok", mixing: str = "mixed") -> dict[str, object]:
    return {
        "key": key,
        "status": status,
        **asdict(Condition(4, accum, micro, mixing, "normal")),
        "effective_batch_size": accum * micro,
        "incorrect": "",
        "seed": 1,
        "dropout": False,
    }


def test_equal_runs_pass_and_others_fail(tmp_path):
    store = Store(tmp_path)
    written(tmp_path, "a", [1.0, 0.5], [0, 1, 0])
    written(tmp_path, "b", [1.0, 0.50001], [0, 1, 0])
    written(tmp_path, "c", [1.0, 0.6], [0, 1, 0])
    written(tmp_path, "d", [1.0, 0.5], [0, 1, 1])
    rows = [cell("a", 1, 8), cell("b", 2, 4), cell("c", 4, 2), cell("d", 8, 1), cell("e", 1, 4), cell("f", 2, 4, "failed")]
    found = {pair.split: pair for pair in split_pairs(store, pd.DataFrame(rows))}
    assert set(found) == {(1, 2), (1, 4), (1, 8)}
    assert found[1, 2].passed
    assert found[1, 2].loss_difference == pytest.approx(2e-5)
    assert not found[1, 4].passed
    assert not found[1, 4].drifted  # apart at once
    assert not found[1, 8].passed  # an answer differs by more than a near-tie
    assert found[1, 8].answers_differing == 1


def test_late_difference_is_drift_and_early_difference_is_failure(tmp_path):
    same = [1.0, 0.9, 0.8] + [0.5] * 27
    written(tmp_path, "a", same, [0, 1, 0])
    written(tmp_path, "b", [*same[:-1], 0.6], [0, 1, 1])
    written(tmp_path, "c", [1.0, 0.902, *same[2:]], [0, 1, 0])  # by as much as an incorrect norm, and back again
    rows = pd.DataFrame([cell("a", 1, 8), cell("b", 2, 4), cell("c", 4, 2)])
    pairs = split_pairs(Store(tmp_path), rows)
    assert [(pair.passed, pair.drifted) for pair in pairs] == [(False, True), (False, False)]
    table = tables.batch_split_table(pairs, rows)
    assert [row[-1] for row in table.rows] == ["drifts", "NO"]
    assert "Coincide: 0 of 2 pairs, 1 drift." in table.note


def test_a_step_that_only_one_cell_took_is_a_difference(tmp_path):
    written(tmp_path, "a", [1.0, 0.5], [0, 1])
    written(tmp_path, "b", [1.0, float("nan")], [0, 1])
    [pair] = split_pairs(Store(tmp_path), pd.DataFrame([cell("a", 1, 8), cell("b", 2, 4)]))
    assert not pair.passed
    written(tmp_path, "c", [1.0, float("nan")], [0, 1])
    [pair] = split_pairs(Store(tmp_path), pd.DataFrame([cell("b", 1, 8), cell("c", 2, 4)]))
    assert pair.passed  # neither took it


def test_near_ties_may_differ(tmp_path):
    written(tmp_path, "a", [1.0], [0, 1], scores="-1.0001;-1.0002")
    written(tmp_path, "b", [1.0], [0, 0], scores="-1.0002;-1.0001")
    [pair] = split_pairs(Store(tmp_path), pd.DataFrame([cell("a", 1, 8), cell("b", 2, 4)]))
    assert (pair.answers_differing, pair.near_ties, pair.passed) == (1, 1, True)


def test_dropout_is_not_checked(tmp_path):
    written(tmp_path, "a", [1.0], [0])
    written(tmp_path, "b", [1.3], [1])
    rows = [cell("a", 1, 8) | {"dropout": True}, cell("b", 2, 4) | {"dropout": True}]
    table = tables.batch_split_table(split_pairs(Store(tmp_path), pd.DataFrame(rows)), pd.DataFrame(rows))
    assert table is not None
    assert table.rows[0][-1] == "dropout"
    assert "cannot be checked" in table.note


def test_no_pairs_are_counted_where_none_can_be_checked(tmp_path):
    written(tmp_path, "a", [1.0], [0])
    written(tmp_path, "b", [1.3], [1])
    rows = pd.DataFrame([cell("a", 1, 8) | {"dropout": True}, cell("b", 2, 4) | {"dropout": True}])
    assert "0 of 0" not in tables.batch_split_table(split_pairs(Store(tmp_path), rows), rows).note
