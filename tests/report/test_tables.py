"""Tables of the report and their notes."""

from dataclasses import asdict

import pandas as pd
import pytest

from qtablate.axes import Condition
from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.records import LeftOut
from qtablate.report import tables
from qtablate.report.frames import SUMMARY_COLUMNS


def test_summary_says_that_no_cell_has_finished():
    row = dict.fromkeys(SUMMARY_COLUMNS) | {
        **asdict(Condition(0, 1, 8, "mixed", "none")),
        "seeds_done": 0,
        "seeds_wanted": 3,
    }
    table = tables.summary_table(pd.DataFrame([row]), "960 samples a cell")
    assert table.notes() == "No cell has finished."
    assert table.rows[0][-1] == "0/3"


def test_problems_are_counted_by_kind_with_examples():
    problems = [LeftOut("item", f"item{n}", "missing video", f"{n}.mp4") for n in range(5)]
    table = tables.left_out_table([*problems, LeftOut("item", "x", "malformed item", "?")])
    assert table is not None
    assert [row[:2] for row in table.rows] == [("missing video", "5"), ("malformed item", "1")]
    assert "item0: 0.mp4" in table.rows[0][2]
    assert tables.left_out_table([]) is None


@pytest.mark.parametrize("base", [{}, {"a": 0.75}])
def test_task_table_has_the_accuracy_of_the_base_where_it_is_known(base):
    row = {
        **asdict(Condition(0, 1, 8, "mixed", "none")),
        "n_items": 4,
        "accuracy": 0.5,
        "blind_accuracy": 0.25,
        "chance": 0.25,
    }
    table = tables.task_table(pd.DataFrame([row | {"task": "a"}, row | {"task": "b"}]), base, {})
    assert ("base" in table.columns) == bool(base)
    if base:
        at = table.columns.index("base")
        assert [r[at] for r in table.rows] == ["75.0", ""]


TASK = {
    **asdict(Condition(0, 1, 8, "mixed", "none")),
    "n_items": 4,
    "accuracy": 0.5,
    "blind_accuracy": 0.25,
    "chance": 0.25,
}


def test_left_out_items_are_counted_per_task():
    table = tables.task_table(pd.DataFrame([TASK | {"task": "a"}, TASK | {"task": "b"}]), {}, {"b": 3, "gone": 9})
    assert [row[:2] for row in table.rows] == [("a", "4"), ("b", "4 of 7"), ("gone", "0 of 9")]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "12 items of 2 tasks are left out" in table.notes()


def test_published_averages_are_shown_only_for_all_tasks_of_mvbench():
    whole = pd.DataFrame([TASK | {"task": task} for task in MEDIA_ROOTS])
    table = tables.published_table(whole)
    assert [row[1] for row in table.rows] == ["51.1", "51.0", "60.4", "62.3"]
    assert tables.published_table(whole.iloc[1:]) is None
    assert tables.published_table(pd.DataFrame([TASK | {"task": "picture_color"}])) is None


def test_columns_of_axes_are_never_left_out():
    rows = [
        dict.fromkeys(SUMMARY_COLUMNS)
        | asdict(Condition(4, 4, micro, mixing, "normal", 1.0, scaling, norm, "window", at))
        | {"seeds_done": 0, "seeds_wanted": 3}
        for micro, mixing, scaling, norm, at in (
            (8, "mixed", "none", "tokens", "window"),
            (16, "random", "sqrt", "micro_mean", "micro_batch"),
        )
    ]
    table = tables.summary_table(pd.DataFrame(rows), "960 samples a cell")
    named = ("extra tokens", "accum", "micro-batch", "mixing", "lr scaling", "loss norm", "lr step per")
    assert table.columns[: len(named)] == named
    assert not set(named) & set(table.optional)
    assert table.rows[1][5:7] == ("micro_mean (incorrect)", "micro_batch (incorrect)")
