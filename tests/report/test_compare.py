"""Two folders against each other, and a folder as frames."""

import dataclasses
import json
import re
import shutil
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest
from finished_cells import answer_row
from launch import here
from scipy import stats
from scored_folder import drawn, folder
from settings import config, settings, sweep_file

import qtablate
from qtablate.axes import Condition
from qtablate.cell.outputs import TRAIN_COLUMNS
from qtablate.errors import QtablateError, StoreError
from qtablate.grid import RECORD_SCHEMA
from qtablate.records import Figures, PlannedCell, Record, TaskScore
from qtablate.report.compare import compare
from qtablate.report.folder import AXES
from qtablate.report.tables import comparison_sentence, comparison_table
from qtablate.statistics.clustered import ClusteredMean
from qtablate.store import Store

ITEMS = 300


def write(
    folder,
    accuracies,
    seeds=(1, 2, 3),
    benchmark="b",
    shift=0.0,
    unfinished=(),
    samples=64,
    names="item",
    warmup_ratio=0.2,
    scaling="none",
    reference_batch=8,
    beta2=0.999,
):
    """A finished sweep of conditions by tokens, its answers drawn at these accuracies with common random numbers."""
    store, entries = Store(folder), []
    random = np.random.default_rng(3)
    draws = {seed: random.uniform(size=ITEMS) for seed in seeds}
    for tokens, accuracy in accuracies.items():
        for seed in seeds:
            key = f"{tokens}-{seed}-{folder.name}"
            condition = asdict(
                Condition(tokens, 1, 16, "mixed", "normal" if tokens else "none", lr_scaling=scaling, adam_beta2=beta2)
            )
            entries.append(PlannedCell(key, seed, condition))
            if (tokens, seed) in unfinished:
                continue
            right = draws[seed] < accuracy + shift
            blind = np.arange(ITEMS) % 4 == 0
            rows = [
                answer_row(control, f"{names}-{n:03d}", "ab"[n % 2], f"clip-{n // 2}", good)
                for control, answers in (("full", right), ("blind", blind))
                for n, good in enumerate(answers)
            ]
            store.write_rows(store.cell_file(key, "answers.csv"), rows, tuple(rows[0]))
            store.write_rows(
                store.cell_file(key, "train.csv"), [dict.fromkeys(TRAIN_COLUMNS) | {"step": 1, "loss": 0.5}], TRAIN_COLUMNS
            )
            value, blank = ClusteredMean(float(right.mean()), 0.02, ITEMS), ClusteredMean(0.25, 0.02, ITEMS)
            tasks = tuple(TaskScore(t, value, value, {"blind": blank}, 0.25) for t in "ab")
            figures = Figures(
                8,
                samples,
                1000,
                0,
                0,
                1e-3,
                0,
                False,
                0.5,
                value,
                value.value,
                value,
                {"blind": blank},
                ClusteredMean(0.1, 0.02, ITEMS),
                ClusteredMean(None, None, 0),
                0.25,
                tasks,
                2 + tokens,
                10,
                10,
                "",
                None,
                10.0,
                1.0,
                1.0,
                0.0,
                500.0,
            )
            store.write_record(Record(key, "ok", {}, dataclasses.asdict(figures), files=store.checksums(key)))
    shared = settings(samples=samples, warmup_ratio=warmup_ratio)
    axes = config(lr_scaling=(scaling,), adam_beta2=(beta2,))
    more = {"config": axes, "settings": shared, "reference_batch": reference_batch}
    store.write_sweep(sweep_file(entries, benchmark, ITEMS, **more))
    return store


def test_a_folder_does_not_differ_from_itself(tmp_path):
    one = write(tmp_path / "one", {0: 0.5, 8: 0.6})
    found = compare(one, one, 0.02)
    assert found.frame["difference"].tolist() == [0, 0]
    assert set(found.frame["verdict"]) == {"identical"}
    assert found.differing == ()
    assert "no setting and no answer differs" in comparison_table(found).notes()


def test_a_better_folder_is_better_and_differing_settings_are_named(tmp_path):
    one, two = write(tmp_path / "one", {0: 0.5, 8: 0.6}), write(tmp_path / "two", {0: 0.5, 8: 0.8, 16: 0.8}, warmup_ratio=0.1)
    found = compare(one, two, 0.02)
    rows = found.frame.set_index("extra_num_query_tokens")
    assert rows["verdict"].to_dict() == {0: "identical", 8: "better"}
    assert rows.loc[8, "difference"] == pytest.approx(rows.loc[8, "accuracy_second"] - rows.loc[8, "accuracy_first"])
    assert set(rows["paired"]) == {True}
    assert found.differing == ("settings.warmup_ratio: 0.2 -> 0.1",)
    assert found.only == (0, 1)
    table = comparison_table(found)
    assert table.title == "one (first) and two (second): second minus first"
    assert "settings.warmup_ratio: 0.2 -> 0.1" in table.notes()
    assert "0 conditions that only the first has and 1 that only the second has" in table.notes()


def test_sweeps_with_different_budgets_are_not_comparable(tmp_path):
    one, two = write(tmp_path / "one", {0: 0.5, 8: 0.5}), write(tmp_path / "two", {0: 0.5, 8: 0.9}, samples=128)
    found = compare(one, two, 0.02)
    assert set(found.frame["verdict"]) == {"not comparable"}
    assert "the budget of the first is 64 samples per cell, that of the second 128 samples" in comparison_table(found).notes()


@pytest.mark.parametrize("scaled", [{"scaling": "sqrt"}, {"beta2": "scaled"}])
def test_settings_scaled_from_different_batches_are_not_comparable(scaled, tmp_path):
    one, two = (write(tmp_path / f"{batch}", {8: 0.5}, reference_batch=batch, **scaled) for batch in (8, 64))
    found = compare(one, two, 0.02)
    assert set(found.frame["verdict"]) == {"not comparable"}
    assert found.frame["ci_low"].isna().all()
    assert found.differing == ("reference_batch: 8 -> 64",)
    plain = [write(tmp_path / f"plain{batch}", {8: 0.5}, reference_batch=batch) for batch in (8, 64)]  # where nothing is scaled
    found = compare(*plain, 0.02)
    assert set(found.frame["verdict"]) == {"identical"}
    assert found.differing == ()
    assert found.frame["effective_batch_size"].tolist() == [16]


def test_different_items_are_two_independent_means(tmp_path):
    """Wider than paired ones, and Welch's interval where clips have one item and seeds are one."""
    one = write(tmp_path / "one", {0: 0.5}, seeds=(1,))
    two = write(tmp_path / "two", {0: 0.5}, seeds=(1,), shift=0.1, benchmark="another")
    paired = compare(one, write(tmp_path / "same", {0: 0.5}, seeds=(1,), shift=0.1), 0.02).frame.iloc[0]
    apart = compare(one, two, 0.02).frame.iloc[0]
    assert apart["difference"] == pytest.approx(paired["difference"])
    assert apart["stderr"] > 1.5 * paired["stderr"]
    assert not apart["paired"]
    arms = []
    for name in ("one", "two"):
        answers = pd.read_csv(tmp_path / name / "cells" / f"0-1-{name}" / "answers.csv")
        arms.append(answers[answers["control"] == "full"].groupby("cluster")["correct"].mean())
    welch = stats.ttest_ind(arms[1], arms[0], equal_var=False)
    assert apart["p"] == pytest.approx(welch.pvalue, rel=1e-6)
    assert "did not score the same items" in comparison_table(compare(one, two, 0.02)).notes()


def test_folders_that_cannot_be_compared(tmp_path):
    one, two = write(tmp_path / "one", {0: 0.5}), write(tmp_path / "two", {8: 0.5})
    with pytest.raises(QtablateError, match="no finished condition in common"):
        compare(one, two, 0.02)
    sweep = two.read_sweep()
    two.write_sweep(sweep.model_copy(update={"config": config(batch_size_is="effective-batch")}))
    with pytest.raises(QtablateError, match="not the same ones"):
        compare(one, two, 0.02)
    two.write_sweep(sweep.model_copy(update={"schema_version": RECORD_SCHEMA - 1}))
    with pytest.raises(StoreError, match="another version"):
        compare(one, two, 0.02)


def test_every_number_of_the_report_is_in_a_frame(tmp_path):
    write(tmp_path / "r", {0: 0.5, 8: 0.7}, unfinished=((8, 3),))
    found = qtablate.load(tmp_path / "r")
    assert len(found.cells) == 6
    assert found.cells["status"].value_counts().to_dict() == {"ok": 5, "pending": 1}
    assert len(found.answers) == 5 * 2 * ITEMS
    assert set(AXES) <= set(found.answers) & set(found.train)
    assert found.train["seed"].tolist() == [1, 2, 3, 1, 2]
    row = found.contrasts[found.contrasts["task"] == "all"].iloc[0]
    paired = found.answers.query("control == 'full'").pivot(
        index="item", columns=["extra_num_query_tokens", "seed"], values="correct"
    )
    assert row["difference"] == pytest.approx((paired[8][[1, 2]] - paired[0][[1, 2]]).to_numpy().mean())
    assert found.summary["seeds_done"].tolist() == [3, 2]
    assert found.cost["equivalent_to_best"].tolist() == ["undecided", "highest"]  # 20 points of few seeds
    assert found.query_diagnostics.empty
    assert found.token_ablation.empty
    assert found.attention.empty
    assert len(found.tasks) == 10
    assert found.sweep.items == ITEMS
    other = qtablate.load(tmp_path / "r", baseline={"tokens": "8"})
    assert other.contrasts["difference"].iloc[0] == pytest.approx(-row["difference"])


def test_a_folder_without_a_sweep(tmp_path):
    with pytest.raises(StoreError, match=r"holds no sweep\.json"):
        qtablate.load(tmp_path)


def test_a_folder_without_a_finished_cell(tmp_path):
    write(tmp_path / "r", {0: 0.5}, seeds=(1,), unfinished=((0, 1),))
    found = qtablate.load(tmp_path / "r")
    for name in ("contrasts", "cost", "query_diagnostics", "token_ablation", "attention", "tasks", "train", "answers"):
        assert getattr(found, name).empty, name
    assert json.loads((tmp_path / "r" / "sweep.json").read_text())["cells"]


def test_a_comparison_is_said_in_a_sentence_and_written_as_a_page(tmp_path):
    grid = {(0, 1): drawn(0.4), (4, 1): drawn(0.4)}
    one = folder(tmp_path / "one", grid, seeds=(1, 2, 3), items=400, clips=400)
    two = folder(tmp_path / "two", grid | {(4, 1): drawn(0.7)}, seeds=(1, 2, 3), items=400, clips=400)
    found = compare(one, two, 0.02)
    sentence = comparison_sentence(found)
    assert sentence.startswith("two against one: ")
    assert "better in 1" in sentence
    assert re.search(r"The largest difference is \+\d+\.\d points \(95 % CI .*\) with extra tokens 4, accum 1\.$", sentence)
    text = here("report", one.root, two.root, "--page", tmp_path / "c.html")
    assert text.startswith(sentence)
    page = (tmp_path / "c.html").read_text()
    assert f">{sentence}</h1>" in page
    assert page.count("<tr>") == 3
    assert "expected" not in page
    assert comparison_sentence(compare(one, one, 0.02)).endswith(" hold the same results.")
    assert "--page is for two folders" in here("report", one.root, "--page", tmp_path / "c.html", code=2)
    assert "name a file in an existing folder" in here(
        "report", one.root, two.root, "--page", tmp_path / "n" / "c.html", code=2
    )


def test_watching_shows_a_report_again_as_cells_finish(tmp_path, monkeypatch):
    store = folder(tmp_path / "r", {(0, 1): drawn(0.5)}, failed=(((0, 1), 2),))
    pauses = []

    def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 2:
            for path in (store.root / "cells" / "0-1-1").glob("*.csv"):
                shutil.copy(path, store.root / "cells" / "0-1-2")
            store.write_record(dataclasses.replace(store.read_record("0-1-1"), key="0-1-2"))

    monkeypatch.setattr("qtablate.cli.report.time.sleep", sleep)
    monkeypatch.setattr(Store, "busy", lambda self: len(pauses) < 4)
    text = here("report", store.root, "--watch", "--no-figures")
    assert len(pauses) == 4
    assert text.count("No recommendation: ") == 3  # at first, when the cell had finished, and at the end
    assert [row.split()[-1] for row in text.splitlines() if row.startswith("      0       1")] == ["1/2", "2/2", "2/2"]
    assert text.count("Watching: ") == 4
