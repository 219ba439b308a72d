"""What the extra tokens hold, from files: means over seeds, how few do, and what useless ones are called."""

from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from qtablate.axes import Condition
from qtablate.records import Record
from qtablate.report import tables
from qtablate.report.extra_tokens import extra_state
from qtablate.report.extra_tokens import remedy as remedy_of
from qtablate.report.plots import attention
from qtablate.report.query_diagnostics import query_diagnostics_frame
from qtablate.report.tables.training import warning
from qtablate.store import Store

LIKENESS = {"query_rank": 7.0, "query_cosine": 0.0, "output_rank": 5.0, "output_cosine": 0.2, "moved": 1.0, "moved_base": 2.0}


@pytest.fixture
def folder(tmp_path):
    """Two seeds of 4 extra tokens, one cell without any, one that was not looked at."""
    store, rows = Store(tmp_path), []
    for key, tokens, seed, output_rank, losses in (
        ("a", 4, 1, 2.0, (-0.3, -0.1, -0.01)),
        ("b", 4, 2, 4.0, (-0.1, -0.04, -0.01)),
        ("c", 0, 1, None, ()),
        ("d", 8, 1, None, None),
    ):
        rows.append({"key": key, "status": "ok", "seed": seed} | asdict(Condition(tokens, 1, 8, "mixed", "normal")))
        cell = tmp_path / "cells" / key
        cell.mkdir(parents=True)
        likeness = LIKENESS | {"output_rank": output_rank} if output_rank else None
        (cell / "train.csv").write_text("step\n1\n")
        (cell / "answers.csv").write_text("control\nfull\n")
        store.write_record(Record(key, "ok", {}, {"query_diversity": likeness}, files=store.checksums(key)))
        if losses is None:
            continue
        parts = [("first", 2, 2 + n, change) for n, change in zip((0, 1, 2), losses, strict=False)] + [("mean", 0, 2, -0.5)]
        pd.DataFrame(
            [(what, start, end, 100, 0.8 + change, 0.04, change, 0.02) for what, start, end, change in parts],
            columns=["ablation", "start", "end", "n_items", "accuracy", "accuracy_stderr", "change", "change_stderr"],
        ).to_csv(cell / "token_ablation.csv", index=False)
        looks = {"token": range(2 + tokens), "extra": [0, 0] + [1] * tokens, "from_question": 0.01, "from_answer": 0.05}
        places = {f"place_{f}_{r}_{c}": 1 / 12 for f in range(3) for r in range(2) for c in range(2)}
        pd.DataFrame(looks | places).to_csv(cell / "attention.csv", index=False)
    return store, pd.DataFrame(rows)


def test_a_condition_is_the_mean_of_its_seeds(folder):
    [row] = query_diagnostics_frame(*folder, margin=0.02).to_dict("records")
    assert (row["extra_num_query_tokens"], row["seeds"]) == (4, 2)
    assert row["output_rank"] == 3.0
    assert row["moved_relative"] == 0.5
    assert row["attention_base"] == pytest.approx(0.1)
    assert row["attention_extra"] == pytest.approx(0.2)
    assert row["change_without_extra"] == pytest.approx(-0.2)
    assert row["change_without_base"] == pytest.approx(-0.5)
    assert row["min_sufficient_tokens"] == 2


def test_min_sufficient_tokens_depend_on_the_margin(folder):
    for margin, enough in ((0.25, 0), (0.1, 1), (0.001, 4)):
        assert query_diagnostics_frame(*folder, margin=margin)["min_sufficient_tokens"].iloc[0] == enough


@pytest.mark.parametrize(
    ("moved", "queries", "outputs", "name"),
    [
        (0.05, 0.0, 0.0, "frozen"),
        (0.8, 0.99, 0.0, "copies"),
        (0.8, 0.7, 0.99, "copies"),
        (0.8, 0.3, 0.8, ""),
        (0.8, None, None, ""),
        (None, 0.1, 0.1, ""),
    ],
)
def test_states_of_extra_tokens(moved, queries, outputs, name):
    assert extra_state(moved, queries, outputs) == name


def test_the_table_describes_the_tokens_in_a_sentence(folder):
    table = tables.diagnostics_table(query_diagnostics_frame(*folder, margin=0.02), 0.02)
    assert "4 extra tokens (accum 1, normal) behave like 3." in table.notes()
    assert table.rows[0][-2:] == ("2", "")


@pytest.mark.parametrize(
    ("name", "init", "rate"),
    [
        ("copies", "zeros", 1.0),
        ("copies", "normal", 1.0),
        ("frozen", "zeros", 0.1),
        ("frozen", "normal", 1.0),
        ("", "normal", 1.0),
    ],
)
def test_diagnostics_and_training_give_the_same_remedy(folder, name, init, rate):
    """`Use --extra-init normal` for tokens that began normal."""
    table = query_diagnostics_frame(*folder, margin=0.02).assign(extra_state=name, extra_init=init, extra_lr=rate)
    note, remedy = tables.diagnostics_table(table, 0.02).notes(), remedy_of(name, init, rate)
    assert note.endswith(remedy)
    assert ("--extra-init normal" in note) == (init != "normal" and rate == 1.0)
    if name:
        assert warning({"extra_state": name, "extra_init": init, "extra_lr": rate}).endswith(remedy)


def test_unknown_rank_is_not_mentioned(folder):
    for name in ("", "copies"):
        table = query_diagnostics_frame(*folder, margin=0.02).assign(extra_state=name, output_rank=float("nan"))
        assert "behave like" not in tables.diagnostics_table(table, 0.02).notes()


def test_a_folder_without_diagnostics_has_no_table(folder):
    store, cells = folder
    rest = cells[cells["key"] == "d"]
    assert query_diagnostics_frame(store, rest, 0.02).empty
    assert tables.diagnostics_table(query_diagnostics_frame(store, rest, 0.02), 0.02) is None
    assert attention.attention_drawings(store, rest) == []


def test_plots_are_one_per_condition_and_hold_every_place(folder):
    store, cells = folder
    drawings = attention.attention_drawings(store, cells)
    assert [drawing.name for drawing in drawings] == ["attention-4-1", "attention-0-1"]
    looks = pd.read_csv(store.cell_file("a", "attention.csv"))
    assert attention.attention_shares(looks).shape == (6, 3, 2, 2)
    panel = drawings[0].figure().axes[0]
    assert [text.get_text() for text in panel.get_yticklabels()] == ["base 0", "base 1", *(f"extra {n}" for n in range(2, 6))]
    canvas = panel.images[0].get_array()
    assert np.isfinite(canvas.filled(np.nan)).sum() == 6 * 3 * 2 * 2
    assert canvas.max() == pytest.approx(1 / 12)


def test_attention_of_all_conditions_has_one_scale(folder):
    store, cells = folder
    path = store.cell_file("c", "attention.csv")
    pd.read_csv(path).replace(1 / 12, 0.5).to_csv(path, index=False)
    before = [drawing.digest for drawing in attention.attention_drawings(store, cells)]
    drawings = attention.attention_drawings(store, cells)
    assert {drawing.figure().axes[0].images[0].get_clim() for drawing in drawings} == {(0, 0.5)}
    pd.read_csv(path).replace(0.5, 0.25).to_csv(path, index=False)
    after = [drawing.digest for drawing in attention.attention_drawings(store, cells)]
    assert not set(before) & set(after)
