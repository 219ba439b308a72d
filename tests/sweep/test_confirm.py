"""The confirmation of a sweep: two conditions with seeds that took no part in the choice, and nothing of the grid changes."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from finished_cells import Finisher
from launch import here, swept
from settings import config

from qtablate import load
from qtablate.errors import ConfigError, StoreError
from qtablate.interrupts import Stopped
from qtablate.report import confirmation
from qtablate.report.build import report
from qtablate.sweep import estimate as estimates
from qtablate.sweep import executors
from qtablate.sweep import run as runs
from qtablate.sweep.confirm import describe_confirmation
from qtablate.sweep.describe import explain_defaults, plan_table
from qtablate.sweep.forecast import Estimate, Forecast
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import SweepPlan, make_plan

TABLES = ("cells", "tasks", "summary", "contrasts", "training", "cost")
ACCURACIES = {0: 0.5, 4: 0.7, 8: 0.6}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def finisher(monkeypatch) -> Finisher:
    """Finishes every cell at the accuracy of its condition."""
    made = Finisher(lambda cell: ACCURACIES[cell.condition.extra_num_query_tokens])
    monkeypatch.setattr(executors, "run_jobs", made)
    return made


def planned(out: Path, tokens=(0, 4), seeds=(1, 2), **changes) -> SweepPlan:
    return make_plan(config(tokens=tokens, seeds=seeds, samples=16, items_per_task=1, jobs=1, out=out, **changes))


def sweep(out: Path, **changes) -> SweepPlan:
    """Run a sweep and write its report."""
    plan = planned(out, **changes)
    with joined(plan.store, plan.config):
        plan = runs.run_plan(plan)
    report(plan.store, figures=False)
    return plan


def confirmed(out: Path) -> list[tuple[int, int]]:
    """(extra tokens, seed) of the cells of the confirmation in sweep.json."""
    cells = json.loads((out / "sweep.json").read_text())["confirmation"]
    return [(cell["condition"]["extra_num_query_tokens"], cell["seed"]) for cell in cells]


def test_the_best_and_the_baseline_run_with_seeds_that_the_grid_has_not(finisher, tmp_path):
    plan = sweep(tmp_path / "r", tokens=(0, 4, 8), seeds=(1, 5), confirm=2)
    assert finisher.ran[:6] == [(0, 1), (4, 1), (8, 1), (0, 5), (4, 5), (8, 5)]
    assert finisher.ran[6:] == [(4, 6), (0, 6), (4, 7), (0, 7)] == confirmed(tmp_path / "r")
    assert not {cell.key for cell in plan.cells} & {cell.key for cell in plan.confirmation.cells}
    found = load(tmp_path / "r")
    recommended, baseline = found.confirmation.to_dict("records")
    assert (recommended["role"], baseline["role"]) == ("recommended", "baseline")
    assert (recommended["extra_num_query_tokens"], baseline["extra_num_query_tokens"]) == (4, 0)
    assert (recommended["seeds"], recommended["seeds_wanted"], recommended["fresh_seeds"]) == (2, 2, "6 7")
    summary = found.summary.set_index("extra_num_query_tokens")["accuracy"]
    assert recommended["accuracy_at_selection"] == pytest.approx(summary[4])
    assert recommended["difference_at_selection"] == pytest.approx(summary[4] - summary[0])
    fresh = {
        (cell.condition.extra_num_query_tokens, cell.seed): plan.store.read_record(cell.key).figures["accuracy"]["value"]
        for cell in plan.confirmation.cells
    }
    assert recommended["accuracy"] == pytest.approx((fresh[4, 6] + fresh[4, 7]) / 2)
    assert recommended["difference"] == pytest.approx((fresh[4, 6] + fresh[4, 7] - fresh[0, 6] - fresh[0, 7]) / 2)
    assert recommended["ci_low"] < recommended["difference"] < recommended["ci_high"]
    assert recommended["uncertainty"] == "items and seeds"
    assert pd.isna(baseline["difference"])


def test_tables_of_the_grid_are_the_same_bytes_with_and_without(finisher, tmp_path):
    sweep(tmp_path / "plain")
    sweep(tmp_path / "confirmed", confirm=3)
    for name in TABLES:
        assert (tmp_path / "plain" / f"{name}.csv").read_bytes() == (tmp_path / "confirmed" / f"{name}.csv").read_bytes(), name
    plain, more = ((tmp_path / name / "report.md").read_text() for name in ("plain", "confirmed"))
    before, _, rest = more.partition("## Confirmation")
    [said] = [line for line in before.splitlines() if line.startswith("Highest accuracy")]
    [instead] = [line for line in plain.splitlines() if line.startswith("Highest accuracy")]
    assert "With 3 fresh seeds it has " in said
    whole = (before + rest[rest.index("## ") :]).replace(said, instead)
    assert whole == plain.replace("# qtablate: plain", "# qtablate: confirmed")
    assert not (tmp_path / "plain" / "confirmation.csv").exists()


def test_a_whole_command_confirms_what_the_same_command_without_it_found(tmp_path, monkeypatch):
    """In so short runs chance alone says which condition is best: the choice is settled for them."""
    monkeypatch.setattr(confirmation, "conditions_to_confirm", lambda answers, _: tuple(reversed(answers.conditions)))
    cache, words = tmp_path / "cache", ["--samples", "64", "--items-per-task", "3", "--tokens", "0,4", "--accum", "1"]
    words += ["--seeds", "1", "--controls", "blind"]
    swept(cache, *words, "--out", tmp_path / "r")
    grid = {name: (tmp_path / "r" / f"{name}.csv").read_bytes() for name in TABLES}
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("record.json")}
    results = swept(cache, *words, "--confirm", "1", "--out", tmp_path / "r")
    assert {name: (tmp_path / "r" / f"{name}.csv").read_bytes() for name in TABLES} == grid
    assert {path: path.stat().st_mtime_ns for path in records} == records
    assert len(list((tmp_path / "r").rglob("record.json"))) == 4
    assert len(results.cells) == 2
    shown = (tmp_path / "r" / "report.md").read_text()
    assert confirmed(tmp_path / "r") == [(4, 2), (0, 2)]
    assert results.confirmation["fresh_seeds"].tolist() == ["2", "2"]
    assert results.confirmation["uncertainty"].tolist() == ["items only", ""]
    assert "Seed 2 took no part in it" in shown
    assert "ONE SEED" in shown.partition("## Confirmation")[2].partition("##")[0]


def test_keys_of_cells_do_not_depend_on_it(tmp_path):
    plain, more = planned(tmp_path / "r"), planned(tmp_path / "r", confirm=4)
    assert [cell.key for cell in plain.cells] == [cell.key for cell in more.cells]
    later = planned(tmp_path / "r", seeds=(1, 2, 3))  # a confirmation cell is the cell that a grid with its seed would have
    assert {cell.key for cell in plain.cells} < {cell.key for cell in later.cells}


def test_a_second_run_runs_nothing_and_more_seeds_run_alone(finisher, tmp_path):
    sweep(tmp_path / "r", confirm=1)
    ran = list(finisher.ran)
    sweep(tmp_path / "r", confirm=1)
    assert finisher.ran == ran
    sweep(tmp_path / "r", confirm=3)
    assert finisher.ran[len(ran) :] == [(4, 4), (0, 4), (4, 5), (0, 5)]
    assert load(tmp_path / "r").confirmation["fresh_seeds"].tolist() == ["3 4 5"] * 2


def test_it_stays_shown_without_the_option_and_with_fewer_seeds(finisher, tmp_path):
    sweep(tmp_path / "r", confirm=2)
    table, ran = (tmp_path / "r" / "confirmation.csv").read_bytes(), list(finisher.ran)
    for changes in ({}, {"confirm": 1}):
        sweep(tmp_path / "r", **changes)
        assert (tmp_path / "r" / "confirmation.csv").read_bytes() == table
        assert "## Confirmation" in (tmp_path / "r" / "report.md").read_text()
    assert finisher.ran == ran


def test_another_choice_of_a_grown_grid_is_confirmed_anew(finisher, tmp_path):
    sweep(tmp_path / "r", tokens=(0, 8), confirm=1)
    old = {path.name for path in (tmp_path / "r" / "cells").iterdir()}
    sweep(tmp_path / "r", tokens=(0, 4, 8))
    assert confirmed(tmp_path / "r") == []
    assert (tmp_path / "r" / "confirmation.csv").read_text().count("\n") == 1  # of an earlier choice nothing is shown
    assert "## Confirmation" not in (tmp_path / "r" / "report.md").read_text()
    ran = list(finisher.ran)
    sweep(tmp_path / "r", tokens=(0, 4, 8), confirm=1)
    assert finisher.ran[len(ran) :] == [(4, 3)]  # the baseline with seed 3 is finished
    assert confirmed(tmp_path / "r") == [(4, 3), (0, 3)]
    assert old < {path.name for path in (tmp_path / "r" / "cells").iterdir()}


@pytest.mark.parametrize("confirm", [0, 2])
def test_seeds_that_the_grid_takes_are_not_fresh_any_more(confirm, finisher, tmp_path):
    sweep(tmp_path / "r", confirm=2)
    ran = list(finisher.ran)
    sweep(tmp_path / "r", seeds=(1, 2, 3), confirm=confirm)  # seed 3 is finished, and part of the choice now
    assert finisher.ran[len(ran) :] == [(4, 5), (0, 5)][:confirm]
    assert confirmed(tmp_path / "r") == [(4, 4), (0, 4), (4, 5), (0, 5)][: 2 + confirm]


def test_other_settings_are_not_confirmed_by_old_cells(finisher, tmp_path):
    sweep(tmp_path / "r", confirm=1)
    sweep(tmp_path / "r", learning_rate=0.1)
    assert confirmed(tmp_path / "r") == []
    sweep(tmp_path / "r")
    assert confirmed(tmp_path / "r") == []  # it is no longer recorded; --confirm shows it again, and runs nothing
    ran = list(finisher.ran)
    sweep(tmp_path / "r", confirm=1)
    assert (finisher.ran, confirmed(tmp_path / "r")) == (ran, [(4, 3), (0, 3)])


def test_a_stopped_confirmation_shows_what_is_finished_and_goes_on(finisher, tmp_path):
    def until_seed_4(cell):
        if cell.seed == 4 and not cell.condition.extra_num_query_tokens:
            raise Stopped(2)
        return ACCURACIES[cell.condition.extra_num_query_tokens]

    rule, finisher.accuracy = finisher.accuracy, until_seed_4
    with pytest.raises(Stopped):
        sweep(tmp_path / "r", confirm=2)
    found = load(tmp_path / "r").confirmation
    assert (found["seeds"].tolist(), found["seeds_wanted"].tolist(), found["fresh_seeds"].tolist()) == (
        [1] * 2,
        [2] * 2,
        ["3"] * 2,
    )
    shown = [table for table in report(planned(tmp_path / "r").store, figures=False).tables if table.title == "Confirmation"]
    assert "Finished so far with both conditions: 1 of 2 fresh seeds." in shown[0].note
    finisher.accuracy, finisher.ran = rule, []
    sweep(tmp_path / "r")  # nobody asks for it: what was never finished does not run
    assert finisher.ran == []
    sweep(tmp_path / "r", confirm=2)
    assert finisher.ran == [(0, 4)]
    sweep(tmp_path / "whole", confirm=2)
    assert (tmp_path / "r" / "confirmation.csv").read_bytes() == (tmp_path / "whole" / "confirmation.csv").read_bytes()


def test_nothing_runs_where_the_best_is_the_baseline(finisher, tmp_path):
    finisher.accuracy = lambda cell: 0.7 - 0.01 * cell.condition.extra_num_query_tokens
    events: list[runs.SweepEvent] = []
    for _ in range(2):
        plan = runs.run_plan(planned(tmp_path / "r", confirm=2), events.append)
        assert [one.text for one in events if one.kind == "skipped"] == [
            "--confirm: nothing to confirm, the recommended condition is the baseline itself."
        ]
        assert (plan.confirmation.cells, len(finisher.ran)) == ((), 4)
        events.clear()
    assert not (tmp_path / "r" / "confirmation.csv").exists()
    assert plan.confirmation.remark in explain_defaults(plan, Forecast())


@pytest.mark.parametrize(
    ("changes", "failing", "why"),
    [
        ({"tokens": (4,)}, (), "fewer than two conditions are finished"),
        ({}, (0,), "fewer than two conditions are finished"),
        (
            {"tokens": None, "accum": None, "conditions": [{"tokens": 4, "accum": 1}, {"tokens": 0, "accum": 2}]},
            (),
            "no finished condition has all axes at their baseline levels",
        ),
    ],
)
def test_why_there_is_nothing_to_confirm(changes, failing, why, finisher, tmp_path):
    finisher.accuracy = lambda cell: None if cell.condition.extra_num_query_tokens in failing else 0.5
    plan = runs.run_plan(planned(tmp_path / "r", **{"confirm": 1, **changes}))
    assert plan.confirmation.remark == f"--confirm: nothing to confirm, {why}."
    assert {seed for _, seed in finisher.ran} == {1, 2}


def test_conditions_that_break_a_rule_are_not_recommended(finisher, tmp_path):
    finisher.accuracy = lambda cell: 0.9 if cell.condition.loss_norm == "none" else 0.6 - 0.1 * (cell.condition.extra_lr == 1)
    grid = {"tokens": (4,), "accum": (2,), "loss_norm": ("tokens", "none"), "extra_lr": (1.0, 2.0)}
    plan = runs.run_plan(planned(tmp_path / "r", confirm=1, **grid))
    conditions = [cell.condition for cell in plan.confirmation.cells]
    assert [(one.loss_norm, one.extra_lr) for one in conditions] == [("tokens", 2.0), ("tokens", 1.0)]


def test_effective_batches_and_scaled_rates_keep_what_a_cell_rests_on(finisher, tmp_path):
    """A confirmation cell differs from its cell of the grid in the seed alone."""
    finisher.accuracy = lambda cell: 0.3 + 0.01 * cell.condition.effective_batch_size
    grid = {"tokens": (0,), "accum": (1, 2), "batch_size": (8, 16), "mixing": ("random",), "lr_scaling": ("sqrt",)}
    plan = runs.run_plan(
        planned(tmp_path / "r", seeds=(1,), batch_size_is="effective-batch", image_ratio=0.5, confirm=1, **grid)
    )
    recommended, baseline = plan.confirmation.cells
    assert (recommended.condition.effective_batch_size, baseline.condition.effective_batch_size) == (16, 8)
    of_grid = {cell.condition: cell for cell in plan.cells}
    assert [replace(of_grid[cell.condition], seed=2) for cell in plan.confirmation.cells] == [recommended, baseline]


def test_failed_cells_of_the_grid_are_said_to_be_missing(finisher, tmp_path):
    finisher.accuracy = lambda cell: (
        None
        if cell.seed == 2 and cell.condition.extra_num_query_tokens
        else 0.5 + 0.1 * (cell.condition.extra_num_query_tokens > 0)
    )
    plan = sweep(tmp_path / "r", confirm=1)
    assert plan.confirmation.remark.endswith("with fresh seed 3; missing from the choice: 1 of 4 cells of the grid.")
    assert confirmed(tmp_path / "r") == [(4, 3), (0, 3)]
    text = (tmp_path / "r" / "report.md").read_text()
    assert "The grid's 2 seeds (1 of the recommended condition, 2 of the baseline) made this choice" in text
    assert "Missing from the choice: 1 of 4 cells of the grid." in text


def test_failed_cells_of_the_confirmation_are_failed_cells_of_the_command(finisher, tmp_path, monkeypatch):
    monkeypatch.setattr(estimates, "run_jobs", lambda *_: (event for event in ()))
    finisher.accuracy = lambda cell: None if cell.seed == 3 else 0.5 + 0.05 * cell.condition.extra_num_query_tokens
    words = ["sweep", *words_of(tmp_path / "r")]
    said = here(*words, "--confirm", 1, code=1)
    remark = "--confirm: tokens 4, accum 1 (recommended) against tokens 0, accum 1 (baseline) with fresh seed 3."
    assert remark in said
    assert "[2/2] tokens 0, accum 1, seed 3: failed: out of memory" in said
    assert "2 of 6 cells failed; the same command tries them again." in said
    text = (tmp_path / "r" / "report.md").read_text()
    assert "Failed or damaged cells" in text
    assert "Finished so far with both conditions: 0 of 1 fresh seed." in text
    finisher.accuracy = lambda cell: 0.5 + 0.05 * cell.condition.extra_num_query_tokens
    again = here(*words, "--confirm", 1)
    assert "nothing to run" not in again
    assert "## Confirmation\n" in (tmp_path / "r" / "report.md").read_text()
    assert "All 6 cells of " in here(*words, "--confirm", 1)
    assert "All 6 cells of " in here(*words)


def test_dry_run_counts_its_cells_and_their_time(finisher, tmp_path):
    plan = planned(tmp_path / "r", confirm=3)
    one, two = plan.conditions()
    expected = Forecast({one: Estimate(0.1, 5.0, 100, 10, 16, True), two: Estimate(0.1, 20.0, 100, 10, 16, True)}, probes=2)
    note = "then 6 cells of the confirmation (--confirm: 2 conditions, fresh seeds 3 to 5), at most about 2 min 00 s"
    assert describe_confirmation(plan, expected) == note
    assert f"; {note}." in plan_table(plan, expected).note
    assert any(line.startswith("--confirm 3: when the grid is finished") for line in explain_defaults(plan, expected))
    assert describe_confirmation(planned(tmp_path / "r"), expected) == ""
    alone = planned(tmp_path / "r", tokens=(4,), confirm=3)
    assert describe_confirmation(alone, expected) == ""
    assert "--confirm: nothing to confirm, the grid has one condition." in explain_defaults(alone, expected)
    runs.run_plan(planned(tmp_path / "r", confirm=1))
    said = here("sweep", "--dry-run", *words_of(tmp_path / "r"), "--confirm", 2)
    said = " ".join(said.split())
    assert "then 2 cells of the confirmation (--confirm: 2 conditions, fresh seeds 3 and 4), at most about 24 s." in said
    assert "--confirm: tokens 4, accum 1 (recommended) against tokens 0, accum 1 (baseline)" in said


def words_of(out: Path) -> list[object]:
    """The command that has the settings of `planned`."""
    words = ["--samples", 16, "--items-per-task", 1, "--image-ratio", 0, "--controls", "blind", "--tokens", "0,4"]
    return [*words, "--accum", 1, "--seeds", "1,2", "--jobs", 1, "--out", out]


def test_an_old_sweep_json_without_the_field_is_read(finisher, tmp_path):
    plan = sweep(tmp_path / "r")
    content = json.loads(plan.store.sweep_file.read_text())
    del content["confirmation"], content["config"]["run"]["confirm"]
    plan.store.sweep_file.write_text(json.dumps(content))
    assert load(tmp_path / "r").confirmation.empty
    sweep(tmp_path / "r", confirm=1)
    assert confirmed(tmp_path / "r") == [(4, 3), (0, 3)]


def test_a_folder_without_its_confirmation_cells_is_read_from_its_tables(finisher, tmp_path):
    plan = sweep(tmp_path / "r", confirm=1)
    table = (tmp_path / "r" / "confirmation.csv").read_bytes()
    shutil.rmtree(tmp_path / "r" / "cells" / plan.confirmation.cells[0].key)
    found = load(tmp_path / "r")
    assert "1 of its 6 finished cells are no longer under cells/" in found.tables_only
    assert found.confirmation["accuracy"].notna().all()
    assert "Nothing was written" in report(found.store, figures=False).remark
    with pytest.raises(StoreError, match="holds tables of 1 finished cells"):  # another choice would replace their only trace
        sweep(tmp_path / "r", tokens=(0, 8))
    assert (tmp_path / "r" / "confirmation.csv").read_bytes() == table
    ran = list(finisher.ran)
    sweep(tmp_path / "r")  # as lost cells of the grid do, it runs again
    assert finisher.ran[len(ran) :] == [(4, 3)]
    assert (tmp_path / "r" / "confirmation.csv").read_bytes() == table
    shutil.rmtree(tmp_path / "r" / "cells")
    assert "## Confirmation" in (tmp_path / "r" / "report.md").read_text()
    assert [shown.title for shown in report(found.store, figures=False).tables].count("Confirmation") == 1


def test_a_damaged_confirmation_cell_is_run_again(finisher, tmp_path):
    plan = sweep(tmp_path / "r", confirm=1)
    table, ran = (tmp_path / "r" / "confirmation.csv").read_bytes(), list(finisher.ran)
    plan.store.cell_file(plan.confirmation.cells[1].key, "answers.csv").write_text("nothing")
    sweep(tmp_path / "r", confirm=1)
    assert finisher.ran[len(ran) :] == [(0, 3)]
    assert (tmp_path / "r" / "confirmation.csv").read_bytes() == table


def test_seeds_run_out(tmp_path):
    with pytest.raises(
        ConfigError, match="--confirm 2 takes seeds above the largest of --seeds, 4294967294, and none may be above"
    ):
        config(seeds=(4294967294,), confirm=2)
    assert config(seeds=(4294967294,), confirm=1).run.confirm == 1
    with pytest.raises(ConfigError, match="confirm"):
        config(confirm=-1)
