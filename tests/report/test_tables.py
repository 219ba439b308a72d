"""Tables at a fixed width, and the gate of equal effective batches."""

import csv
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from qtablate.grid import Condition
from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.report import tables
from qtablate.report.batch_split_check import split_pairs
from qtablate.report.frames import SUMMARY_COLUMNS
from qtablate.store import Store
from qtablate.table import Table, number, percent, points, with_error

SHEET = Table(
    "Title",
    ("task name", "n", "accuracy %"),
    (("moving_count", "150", "12.3 ±1.0"), ("a", "2", "")),
    "a note",
    left=1,
    optional=("n",),
)


def drawn(sheet: Table, width: int) -> str:
    console = Console(width=width, color_system=None, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    with console.file:
        console.print(sheet.rich(width))
        return "\n".join(line.rstrip() for line in console.export_text().splitlines())


def test_a_sheet_at_a_fixed_width():
    assert drawn(SHEET, 60) == "\n".join(
        [
            "Title",
            "",
            " task                  accuracy",
            " name             n           %",
            " ──────────────────────────────",
            " moving_count   150   12.3 ±1.0",
            " a                2",
            "",
            "a note",
        ]
    )


def test_optional_columns_go_where_there_is_no_room_and_it_is_said():
    text = drawn(SHEET, 28)
    assert "150" not in text
    assert "12.3 ±1.0" in text
    assert "(Not shown: n.)" in text
    assert max(map(len, text.splitlines())) <= 28


def test_markdown_holds_every_column_and_escapes_bars():
    text = Table("T", ("a", "b"), (("x|y", "1"),), left=1).markdown()
    assert text.splitlines() == ["## T", "", "| a | b |", "| --- | ---: |", "| x\\|y | 1 |"]


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA])
def test_missing_stays_empty(missing):
    assert percent(missing) == ""
    assert number(missing) == ""
    assert with_error(missing, 0.1, 40) == ""
    assert percent(0.5, missing) == "50.0"


def test_a_standard_error_stands_where_it_says_something():
    assert with_error(0.5, 0.1, 10) == "50.0 ±10.0"
    assert with_error(0.5, 0.1, 9) == with_error(0.5, None, 1) == "50.0 (too few)"
    assert with_error(1.0, 0.0, 38) == "100.0"  # all alike: not that it is known to the last digit


def test_nothing_is_never_negative():
    assert (number(-0.001, 2), points(-0.0001), percent(-0.0001)) == ("0.00", "+0.0", "0.0")


def test_the_gate_counts_no_pairs_where_none_can_be_judged(tmp_path):
    written(tmp_path, "a", [1.0], [0])
    written(tmp_path, "b", [1.3], [1])
    rows = pd.DataFrame([cell("a", 1, 8) | {"dropout": True}, cell("b", 2, 4) | {"dropout": True}])
    assert "0 of 0" not in tables.batch_split_table(split_pairs(Store(tmp_path), rows), rows).note


def test_summary_of_an_unfinished_sweep_says_so():
    row = dict.fromkeys(SUMMARY_COLUMNS) | {
        **asdict(Condition(0, 1, 8, "mixed", "none")),
        "seeds_done": 0,
        "seeds_wanted": 3,
    }
    sheet = tables.summary_table(pd.DataFrame([row]), "960 samples a cell")
    assert sheet.note == "No cell has finished."
    assert sheet.rows[0][-1] == "0/3"


def test_problems_are_counted_by_kind_with_names():
    problems = [{"subject": f"item{n}", "kind": "missing video", "detail": f"{n}.mp4"} for n in range(5)]
    sheet = tables.left_out_table([*problems, {"subject": "x", "kind": "malformed item", "detail": "?"}])
    assert sheet is not None
    assert [row[:2] for row in sheet.rows] == [("missing video", "5"), ("malformed item", "1")]
    assert "item0: 0.mp4" in sheet.rows[0][2]
    assert tables.left_out_table([]) is None


def written(root: Path, key: str, losses: list[float], predicted: list[int], scores: str = "-1;-3") -> None:
    folder = root / "cells" / key
    folder.mkdir(parents=True)
    with (folder / "train.csv").open("w") as file:
        csv.writer(file).writerows([["loss"], *([loss] for loss in losses)])
    with (folder / "answers.csv").open("w") as file:
        rows = [["full", f"i{n}", p, scores] for n, p in enumerate(predicted)]
        csv.writer(file).writerows([["control", "item", "predicted", "scores"], *rows])


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


def test_gate_passes_equal_runs_and_fails_others(tmp_path):
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


def test_a_run_that_parts_late_drifts_and_one_that_parts_at_once_does_not_coincide(tmp_path):
    same = [1.0, 0.9, 0.8] + [0.5] * 27
    written(tmp_path, "a", same, [0, 1, 0])
    written(tmp_path, "b", [*same[:-1], 0.6], [0, 1, 1])
    written(tmp_path, "c", [1.0, 0.902, *same[2:]], [0, 1, 0])  # by as much as an incorrect norm, and back again
    rows = pd.DataFrame([cell("a", 1, 8), cell("b", 2, 4), cell("c", 4, 2)])
    pairs = split_pairs(Store(tmp_path), rows)
    assert [(pair.passed, pair.drifted) for pair in pairs] == [(False, True), (False, False)]
    sheet = tables.batch_split_table(pairs, rows)
    assert [row[-1] for row in sheet.rows] == ["drifts", "NO"]
    assert "Coincide: 0 of 2 pairs, 1 drift." in sheet.note


def test_gate_lets_near_ties_differ(tmp_path):
    written(tmp_path, "a", [1.0], [0, 1], scores="-1.0001;-1.0002")
    written(tmp_path, "b", [1.0], [0, 0], scores="-1.0002;-1.0001")
    [pair] = split_pairs(Store(tmp_path), pd.DataFrame([cell("a", 1, 8), cell("b", 2, 4)]))
    assert (pair.answers_differing, pair.near_ties, pair.passed) == (1, 1, True)


def test_gate_does_not_judge_what_draws_random_masks(tmp_path):
    written(tmp_path, "a", [1.0], [0])
    written(tmp_path, "b", [1.3], [1])
    rows = [cell("a", 1, 8) | {"dropout": True}, cell("b", 2, 4) | {"dropout": True}]
    sheet = tables.batch_split_table(split_pairs(Store(tmp_path), pd.DataFrame(rows)), pd.DataFrame(rows))
    assert sheet is not None
    assert sheet.rows[0][-1] == "dropout"
    assert "cannot be checked" in sheet.note


@pytest.mark.parametrize("base", [{}, {"a": 0.75}])
def test_tasks_show_what_the_base_scored_where_it_is_known(base):
    row = {
        **asdict(Condition(0, 1, 8, "mixed", "none")),
        "n_items": 4,
        "accuracy": 0.5,
        "blind_accuracy": 0.25,
        "chance": 0.25,
    }
    sheet = tables.task_table(pd.DataFrame([row | {"task": "a"}, row | {"task": "b"}]), base, {})
    assert ("base" in sheet.columns) == bool(base)
    if base:
        at = sheet.columns.index("base")
        assert [r[at] for r in sheet.rows] == ["75.0", ""]


TASK = {
    **asdict(Condition(0, 1, 8, "mixed", "none")),
    "n_items": 4,
    "accuracy": 0.5,
    "blind_accuracy": 0.25,
    "chance": 0.25,
}


def test_what_is_left_out_of_a_task_is_said_beside_it():
    sheet = tables.task_table(pd.DataFrame([TASK | {"task": "a"}, TASK | {"task": "b"}]), {}, {"b": 3, "gone": 9})
    assert [row[:2] for row in sheet.rows] == [("a", "4"), ("b", "4 of 7"), ("gone", "0 of 9")]
    assert {len(row) for row in sheet.rows} == {len(sheet.columns)}
    assert "12 items of 2 tasks are left out" in sheet.note


def test_published_averages_stand_beside_the_whole_of_mvbench_alone():
    whole = pd.DataFrame([TASK | {"task": task} for task in MEDIA_ROOTS])
    sheet = tables.published_table(whole)
    assert [row[1] for row in sheet.rows] == ["51.1", "51.0", "60.4", "62.3"]
    assert tables.published_table(whole.iloc[1:]) is None
    assert tables.published_table(pd.DataFrame([TASK | {"task": "picture_color"}])) is None


def test_what_tells_conditions_apart_is_never_left_out_for_want_of_room():
    rows = [
        dict.fromkeys(SUMMARY_COLUMNS)
        | asdict(Condition(4, 4, micro, mixing, "normal", 1.0, scaling, norm, "window", at))
        | {"seeds_done": 0, "seeds_wanted": 3}
        for micro, mixing, scaling, norm, at in (
            (8, "mixed", "none", "tokens", "window"),
            (16, "random", "sqrt", "micro_mean", "micro_batch"),
        )
    ]
    sheet = tables.summary_table(pd.DataFrame(rows), "960 samples a cell")
    named = ("extra tokens", "accum", "micro-batch", "mixing", "lr scaling", "loss norm", "lr step per")
    assert sheet.columns[: len(named)] == named
    assert not set(named) & set(sheet.optional)
    assert sheet.rows[1][5:7] == ("micro_mean (incorrect)", "micro_batch (incorrect)")
