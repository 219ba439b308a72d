"""Trackers hear of every cell that finishes or fails, once, and what goes wrong with them never reaches the sweep."""

import dataclasses
import json
import re
import time

import pytest
from finished_cells import Finisher
from launch import here
from settings import config
from tracked_sweep import GRID, fake, raise_error, sweep

from qtablate.errors import StoreError
from qtablate.interrupts import Stopped
from qtablate.sweep import executors, tracking
from qtablate.sweep import run as runs
from qtablate.sweep.joined import joined
from qtablate.sweep.plan import make_plan
from qtablate.track import TRACKERS, Kind

AGAIN = "the sweep itself is not affected, and the same command writes the runs that are missing."


@pytest.fixture
def tracker(monkeypatch):
    return fake(monkeypatch)


def test_a_run_has_the_figures_and_the_steps_of_its_cell(tracker, tmp_path):
    plan = sweep(tmp_path / "r", "tensorboard")
    assert tracker.written == ["tokens 0, accum 1, seed 1", "tokens 4, accum 1, seed 1"]
    assert tracker.closed == 1
    cell = plan.cells[1]
    run, figures = tracker.runs[f"r-{cell.key}"], plan.store.read_record(cell.key).figures
    assert (run.group, run.seed, run.sweep, run.failed) == ("tokens 4, accum 1", 1, "r", False)
    assert run.figures["accuracy"] == figures["accuracy"]["value"]
    assert run.figures["blind_accuracy"] == 0.25
    assert run.figures["visual_gain"] == 0.1
    assert run.figures["peak_memory_mb"] == 500.0
    assert "temporal_gain" not in run.figures  # it was not measured
    assert run.tasks == {"a": figures["accuracy"]["value"], "b": figures["accuracy"]["value"]}
    assert [dict(row) for row in run.steps] == [{"step": 1.0, "loss": 0.5}]
    assert run.levels == {"extra_num_query_tokens": 4, "accumulate_grad_batches": 1}
    assert (run.config["micro_batch_size"], run.config["samples"], run.config["bench"]) == (8, 960, "world")
    assert (run.config["model"], run.config["fingerprint_model"]) == ("nano", "m")


def test_the_same_sweep_again_writes_no_run_twice(tracker, tmp_path):
    for _ in range(2):
        sweep(tmp_path / "r", "tensorboard")
        assert len(tracker.written) == 2
    assert tracker.closed == 1  # the second time none was begun
    sweep(tmp_path / "r", "tensorboard", seeds=(1, 2))  # a larger grid: the new cells alone
    assert len(tracker.written) == 4
    tracker.runs.clear()  # someone deletes the runs
    sweep(tmp_path / "r", "tensorboard", seeds=(1, 2))
    assert len(tracker.written) == 8


def test_cells_that_had_finished_before_are_written_when_a_tracker_comes_later(tracker, tmp_path):
    sweep(tmp_path / "r")
    assert not (tmp_path / "r" / "trackers.json").exists()
    sweep(tmp_path / "r", "tensorboard", seeds=(1, 2))
    assert len(tracker.written) == len(set(tracker.written)) == 4
    assert tracker.written[:2] == ["tokens 0, accum 1, seed 1", "tokens 4, accum 1, seed 1"]


def test_a_failed_cell_is_a_failed_run_until_it_has_finished(tracker, tmp_path):
    sweep(tmp_path / "r", "tensorboard", accuracies={0: 0.5, 4: None})
    [failed] = [run for run in tracker.runs.values() if run.failed]
    assert (failed.name, failed.error, failed.figures, failed.steps) == ("tokens 4, accum 1, seed 1", "out of memory", {}, ())
    sweep(tmp_path / "r", "tensorboard")
    assert tracker.written == [f"tokens {n}, accum 1, seed 1" for n in (0, 4, 4)]
    assert not any(run.failed for run in tracker.runs.values())


def test_a_condition_that_gets_another_name_is_written_again_under_it(tracker, tmp_path):
    """A larger grid varies on another axis, which names its conditions from then on."""
    sweep(tmp_path / "r", "tensorboard")
    wider = [*GRID, dataclasses.replace(GRID[0], accumulate_grad_batches=2, loss_norm="micro_mean")]
    sweep(tmp_path / "r", "tensorboard", conditions=wider)
    assert {run.group for run in tracker.runs.values()} == {
        "tokens 0, accum 1, loss norm tokens",
        "tokens 4, accum 1, loss norm tokens",
        "tokens 0, accum 2, loss norm micro_mean (incorrect)",
    }
    assert len(tracker.runs) == 3


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), SystemExit(3), ConnectionError(), StoreError("full")]
)
def test_a_tracker_that_fails_is_one_warning_and_the_others_go_on(tracker, tmp_path, monkeypatch, error):
    tracker.act = raise_error(error)
    other = fake(monkeypatch, "mlflow")
    events = []
    plan = sweep(tmp_path / "r", "tensorboard", "mlflow", on_event=events.append)
    assert not plan.to_run()
    [warning] = [event.text for event in events if event.kind == "notice"]
    assert warning.startswith("Warning: tensorboard gets no more runs of this sweep (")
    assert warning.endswith(AGAIN)
    assert len(other.written) == 2
    assert set(json.loads((tmp_path / "r" / "trackers.json").read_text())) == {"mlflow"}
    tracker.act = None
    sweep(tmp_path / "r", "tensorboard", "mlflow")
    assert len(tracker.written) == len(other.written) == 2


def test_a_tracker_that_cannot_be_imported_is_a_warning_too(tracker, tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "tensorboard", Kind("no_such_module:Tracker", "json"))
    events = []
    sweep(tmp_path / "r", "tensorboard", on_event=events.append)
    assert [event.text for event in events if event.kind == "notice"] == [
        f"Warning: tensorboard gets no more runs of this sweep (No module named 'no_such_module'): {AGAIN}"
    ]


def test_a_script_without_a_listener_is_warned_by_its_log(tracker, tmp_path, caplog):
    tracker.act = raise_error(RuntimeError("no route to host"))
    sweep(tmp_path / "r", "tensorboard")
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["Warning"]
    assert "no route to host" in caplog.text


@pytest.mark.parametrize("stopped", [False, True])
def test_a_tracker_that_hangs_holds_up_nothing_for_long(tracker, tmp_path, monkeypatch, stopped):
    monkeypatch.setattr(tracking, "_STOPPED" if stopped else "_PATIENCE", 0.2)
    tracker.act = lambda: time.sleep(1)
    warnings = []

    def listen(event):
        warnings.extend([event.text] if event.kind == "notice" else [])
        if stopped and event.kind == "ended" and event.stage == "cells":
            raise Stopped(2)

    began = time.monotonic()
    try:
        sweep(tmp_path / "r", "tensorboard", on_event=listen)
    except Stopped:
        assert stopped
    assert time.monotonic() - began < 0.9
    assert warnings == [f"Warning: not all runs were written in time (tensorboard): {AGAIN}"]


def test_a_long_wait_for_many_runs_is_announced(tracker, tmp_path):
    sweep(tmp_path / "r", seeds=range(1, 9))
    tracker.act = lambda: time.sleep(0.02)
    texts = []
    sweep(tmp_path / "r", "tensorboard", seeds=range(1, 9), on_event=lambda event: texts.append(event.text))
    assert len(tracker.runs) == 16
    [text] = filter(None, texts)
    assert re.fullmatch(r"Writing the runs of 1\d cells: tensorboard\.", text)


def test_an_unreadable_list_of_runs_is_made_anew(tracker, tmp_path):
    sweep(tmp_path / "r", "tensorboard")
    for text in ("{", "[]", '{"tensorboard": 3}', '{"tensorboard": {"url": "", "runs": []}}'):
        (tmp_path / "r" / "trackers.json").write_text(text)
        sweep(tmp_path / "r", "tensorboard")
    assert len(tracker.written) == 10
    assert len(tracker.runs) == 2


def test_a_missing_package_is_one_message_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(TRACKERS, "wandb", Kind("qtablate.track.wandb:WandbTracker", "no_such_package"))
    said = here("sweep", "--track", "wandb", "--out", tmp_path / "r", code=2)
    assert "error: --track wandb: its package is not installed; pip install 'qtablate[wandb]', or leave wandb out" in said
    assert "unknown value 'wand'; known: tensorboard, wandb, mlflow" in here("sweep", "--track", "wand", code=2)
    assert not (tmp_path / "r").exists()


def test_a_sweep_tells_its_trackers_of_grid_and_confirmation(tracker, tmp_path, monkeypatch):
    """Through `run_plan`, as the command line and scripts run it."""
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(executors, "run_jobs", Finisher(lambda cell: 0.5 + 0.05 * cell.condition.extra_num_query_tokens))
    settings = config(
        tokens=(0, 4), seeds=(1, 2), confirm=1, samples=16, items_per_task=1, out=tmp_path / "r", track=["tensorboard"]
    )
    plan = make_plan(settings)
    with joined(plan.store, plan.config):
        plan = runs.run_plan(plan)
    assert sorted(run.key for run in tracker.runs.values()) == sorted(
        cell.key for cell in [*plan.cells, *plan.confirmation.cells]
    )
    assert len(tracker.written) == 6
    tracker.runs.clear()
    with joined(plan.store, plan.config):
        runs.run_plan(make_plan(settings))  # nothing to run
    assert len(tracker.runs) == 6
