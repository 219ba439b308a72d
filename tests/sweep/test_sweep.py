"""Whole sweeps on a tiny budget: files, resume, failure, determinism."""

import json
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from launch import command, environment, qtablate, rows, running, sweeping, swept, tables, wait_until
from settings import config

from qtablate.data.export import export_world
from qtablate.errors import DataError
from qtablate.execute.events import Event
from qtablate.records import of_cell
from qtablate.run_config import RunConfig
from qtablate.sweep import executors
from qtablate.sweep import run as runs
from qtablate.sweep.describe import explain_defaults, plan_table
from qtablate.sweep.events import SweepEvent
from qtablate.sweep.forecast import Forecast
from qtablate.sweep.plan import make_plan

SMALL = ["--samples", "64", "--items-per-task", "3", "--tokens", "0,4", "--accum", "1,2", "--seeds", "1"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sweep") / "r"
    swept(cache, *SMALL, "--out", out)
    return out


def test_files_and_columns(finished):
    sweep = json.loads((finished / "sweep.json").read_text())
    assert len(sweep["cells"]) == 4
    assert (sweep["config"]["data"]["items_per_task"], sweep["config"]["data"]["items_seed"]) == (3, 0)
    cells = rows(finished / "cells.csv", ())
    wanted = [
        "key",
        "status",
        "extra_num_query_tokens",
        "accumulate_grad_batches",
        "micro_batch_size",
        "effective_batch_size",
        "mixing",
        "seed",
        "steps",
        "samples_seen",
        "supervised_tokens",
        "train_loss",
        "accuracy",
        "accuracy_stderr",
        "n_items",
        "chance",
        "blind_accuracy",
        "visual_gain",
        "train_seconds",
        "eval_seconds",
        "peak_memory_mb",
        "visual_tokens",
        "trainable_params",
    ]
    assert set(wanted) <= set(cells[0])
    assert {row["status"] for row in cells} == {"ok"}
    assert [row["visual_tokens"] for row in cells] == ["2", "2", "6", "6"]
    assert [row["steps"] for row in cells] == ["8", "4", "8", "4"]
    assert {row["samples_seen"] for row in cells} == {"64"}
    assert len({row["supervised_tokens"] for row in cells}) == 1  # all cells saw the same samples
    for cell in sweep["cells"]:
        folder = finished / "cells" / cell["key"]
        answers = rows(folder / "answers.csv")
        assert len(answers) == 3 * sweep["items"]
        assert {row["control"] for row in answers} == {"full", "blind", "shuffled"}
        assert {path.name for path in folder.iterdir()} == {"record.json", "train.csv", "answers.csv"}


def test_accuracy_in_the_table_is_that_of_the_answers(finished):
    for row in rows(finished / "cells.csv"):
        answers = rows(finished / "cells" / row["key"] / "answers.csv")
        for control in dict.fromkeys(a["control"] for a in answers):
            column = "accuracy" if control == "full" else f"{control}_accuracy"
            mine = [int(a["gold"] == a["predicted"]) for a in answers if a["control"] == control]
            assert float(row[column]) == pytest.approx(sum(mine) / len(mine))
        assert float(row["temporal_gain"]) == pytest.approx(float(row["accuracy"]) - float(row["shuffled_accuracy"]))


def test_the_same_command_runs_nothing_and_is_quick(finished, cache):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")}
    began = resource.getrusage(resource.RUSAGE_CHILDREN)
    again = qtablate(cache, "sweep", *SMALL, "--out", str(finished))
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert spent.ru_utime + spent.ru_stime - began.ru_utime - began.ru_stime < 3 * 2  # 3 s of a core that is idle else
    assert again.returncode == 0
    assert "nothing to run" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")} == before


def test_growing_the_grid_runs_only_what_is_new(finished, cache):
    old = {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")}
    swept(cache, *SMALL[:4], "--tokens", "0,4,1", "--accum", "1", "--seeds", "1", "--out", finished)
    now = {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")}
    assert {path: now[path] for path in old} == old
    assert len(now) == len(old) + 1
    assert set(swept(cache, *SMALL, "--out", finished).cells["status"]) == {"ok"}  # and the first grid is still whole
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("record.json")} == now


def test_killed_and_resumed_equals_uninterrupted(finished, cache, tmp_path):
    env = os.environ | {"QTABLATE_CACHE": str(cache)}
    words = sweeping(cache, *SMALL, "--jobs", "1", "--out", tmp_path / "r")
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        states = [json.loads(p.read_text())["status"] for p in (tmp_path / "r").rglob("record.json")]
        if "ok" in states and "running" in states:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = qtablate(cache, "report", str(tmp_path / "r"))
    assert left.returncode == 0
    assert {row["status"] for row in rows(tmp_path / "r" / "cells.csv")} == {"ok", "pending"}  # nothing runs any more
    swept(cache, *SMALL, "--out", tmp_path / "r")
    swept(cache, *SMALL, "--out", finished)
    wanted = set(tables(tmp_path / "r"))
    assert {name: table for name, table in tables(finished).items() if name in wanted} == tables(tmp_path / "r")


def test_a_cell_that_was_killed_in_training_goes_on_at_its_last_checkpoint(cache, tmp_path):
    """Property 12 of accumulation for whole cells: the same files as without a kill."""
    words = [
        "--samples",
        "320",
        "--items-per-task",
        "3",
        "--tokens",
        "4",
        "--accum",
        "2",
        "--seeds",
        "1",
        "--controls",
        "blind",
    ]
    swept(cache, *words, "--out", tmp_path / "whole")
    env = os.environ | {"QTABLATE_CACHE": str(cache)}
    killed = sweeping(cache, *words, "--checkpoint-minutes", "0.0001", "--out", tmp_path / "killed")
    process = subprocess.Popen(killed, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(2400):
        kept = list((tmp_path / "killed").rglob("checkpoint.pt"))
        if kept:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    [kept] = kept
    for _ in range(100):  # the cell notices that its parent is gone
        before = kept.stat().st_mtime_ns
        time.sleep(0.5)
        if kept.stat().st_mtime_ns == before:
            break
    taken = torch.load(kept, weights_only=True)["steps"]
    assert 0 < len(taken) < 20
    state = torch.load(kept, weights_only=True)
    lost, state["steps"][0]["loss"] = state["steps"][0]["loss"], 12345.0  # a mark: that it goes on, and does not begin again
    torch.save(state, kept)
    swept(cache, *words, "--out", tmp_path / "killed")
    there, wanted = tables(tmp_path / "killed"), tables(tmp_path / "whole")
    [train] = [name for name in there if name.endswith("train.csv")]
    assert there[train][0]["loss"] == "12345"
    there[train][0]["loss"] = f"{lost:.10g}"
    assert there == wanted
    assert not list((tmp_path / "killed").rglob("checkpoint.pt"))


def test_axes_of_accumulation_from_the_command_to_the_report(cache, tmp_path):
    out = tmp_path / "r"
    words = [
        "--samples",
        "64",
        "--items-per-task",
        "3",
        "--tokens",
        "4",
        "--accum",
        "1,2",
        "--batch-size",
        "8,16",
        "--seeds",
        "1",
    ]
    axes = ["--loss-norm", "tokens,micro_mean", "--lr-scaling", "none,sqrt", "--controls", "blind"]
    swept(cache, *words, *axes, "--out", out)
    found = {
        (row["micro_batch_size"], row["accumulate_grad_batches"], row["lr_scaling"], row["loss_norm"]): row
        for row in rows(out / "cells.csv")
    }
    assert len(found) == 1 + 4 + 2 + 4  # (8, 1) has neither axis, (16, 1) no rule to break
    right, wrong = found["8", "2", "none", "tokens"], found["8", "2", "none", "micro_mean"]
    assert (right["incorrect"], wrong["incorrect"]) == ("", "loss_norm=micro_mean")
    assert right["train_loss"] != wrong["train_loss"]
    assert found["16", "1", "none", "tokens"]["train_loss"][:5] == right["train_loss"][:5]  # one effective batch, split
    assert float(found["16", "2", "sqrt", "tokens"]["peak_learning_rate"]) == pytest.approx(2 * 2.5e-3)
    said = (out / "report.md").read_text()
    assert "micro_mean (incorrect)" in said
    gate = said.partition("## Batch split check")[2].splitlines()
    assert sum(line.endswith("| yes |") for line in gate) == 2  # at either scaling
    assert "| NO |" not in said
    training = said.partition("## Training")[2].partition("##")[0]
    assert all(word in training for word in ("samples", "steps", "supervised tokens", "batch"))


@pytest.mark.parametrize(
    ("budget", "column", "amounts"), [("steps 6", "steps", {6}), ("tokens 500", "supervised_tokens", None)]
)
def test_a_budget_is_held_across_conditions(cache, tmp_path, budget, column, amounts):
    out = tmp_path / "r"
    words = [
        "--items-per-task",
        "3",
        "--samples",
        "64",
        "--tokens",
        "0",
        "--accum",
        "1,2",
        "--seeds",
        "1",
        "--controls",
        "blind",
    ]
    results = swept(cache, *words, "--budget", *budget.split(), "--out", out)
    held = {int(row[column]) for row in rows(out / "cells.csv")}
    assert held == amounts if amounts else (len(held) == 1 and 500 <= held.pop() < 600)
    unit = {"steps": "optimizer steps", "tokens": "supervised tokens"}[budget.split()[0]]
    assert f"budget: {budget.split()[1]} {unit} per cell" in (results.store.root / "report.md").read_text()


def test_interrupt_says_how_to_go_on(cache, tmp_path):
    one = ["--items-per-task", "3", "--tokens", "4", "--accum", "1", "--seeds", "1,2"]
    words = command("sweep", *one, "--samples", "1600", "--jobs", "1", "--out", str(tmp_path / "r"))
    with running(words, environment(cache)) as process:
        assert wait_until(lambda: list((tmp_path / "r").rglob("record.json")), 120)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
    assert process.returncode == 130, out
    assert "Go on with the same command: qtablate sweep" in out
    assert "Traceback" not in out


def test_a_cell_that_takes_too_long_is_a_failed_cell_and_its_checkpoint_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    plan = make_plan(config(accum=(1, 2), samples=16, jobs=1, out=tmp_path / "r", cell_timeout=1.5))
    slow, quick = (cell.key for cell in plan.cells)
    kept = plan.store.cell_file(slow, "checkpoint.pt")

    def run_jobs(function, jobs, workers, processes_per_job=1, timeout=None, **_):
        for key, job in jobs:
            if function.endswith("run_cell"):
                plan.store.write_record(of_cell(job.cell, "running"))
                kept.touch()
            late = Event(key, "failed", error=f"it took more than {timeout} s")
            yield late if key == slow else Event(key, "done")

    monkeypatch.setattr(executors, "run_jobs", run_jobs)
    events: list[SweepEvent] = []
    runs.run_plan(plan, events.append)
    assert [one.event.kind for one in events if one.stage == "cells" and one.event] == ["failed", "done"]
    assert [(one.stage, one.kind) for one in events if one.kind != "job"] == [
        ("features", "begun"),
        ("features", "ended"),
        ("cells", "begun"),
        ("cells", "ended"),
    ]
    record = plan.store.read_record(slow)
    assert (record.status, record.error) == ("failed", "it took more than 90.0 s")
    assert plan.store.read_record(quick).status == "running"
    assert kept.exists()


def test_an_interrupt_in_a_script_leaves_the_tables_of_what_is_finished(tmp_path, monkeypatch):
    """A notebook's Ctrl-C is a KeyboardInterrupt: no command line has turned it into another exception."""
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    plan = make_plan(config(samples=16, jobs=1, out=tmp_path / "r"))

    def run_jobs(function, jobs, workers, processes_per_job=1, timeout=None, **_):
        if function.endswith("run_cell"):
            (tmp_path / "r" / "cells.csv").unlink()
            raise KeyboardInterrupt
        yield from ()

    monkeypatch.setattr(executors, "run_jobs", run_jobs)
    with pytest.raises(KeyboardInterrupt):
        runs.run_plan(plan)
    assert (tmp_path / "r" / "cells.csv").exists()


@pytest.mark.parametrize(
    ("minutes", "timeout", "seconds"), [(10, None, 600), (10, 6, 120), (1, 60, 60), (0, 60, None), (0, None, None)]
)
def test_a_cell_is_saved_at_least_twice_before_it_is_ended(minutes, timeout, seconds):
    assert RunConfig(checkpoint_minutes=minutes, cell_timeout=timeout).checkpoint_seconds == seconds  # or it never gets on


def test_a_failed_cell_keeps_its_traceback_and_the_others_go_on(finished, cache, tmp_path):
    """A cell dies when its folder cannot be written; the rest finish."""
    out = tmp_path / "r"
    key = rows(finished / "cells.csv")[1]["key"]
    (out / "cells" / key).mkdir(parents=True)
    (out / "cells" / key / "train.csv").mkdir()  # a folder where the file should go
    swept(cache, *SMALL, "--out", out)
    record = json.loads((out / "cells" / key / "record.json").read_text())
    assert record["status"] == "failed"
    assert "Traceback" in record["traceback"]
    assert "train.csv cannot be written (Is a directory): make room" in record["error"]
    states = [row["status"] for row in rows(out / "cells.csv")]
    assert sorted(states) == ["failed", "ok", "ok", "ok"]
    failed = next(row for row in rows(out / "cells.csv") if row["status"] == "failed")
    assert failed["accuracy"] == ""
    (out / "cells" / key / "train.csv").rmdir()
    assert set(swept(cache, *SMALL, "--out", out).cells["status"]) == {"ok"}


def test_a_diverging_level_fails_alone_and_tables_alone_are_on_stdout(cache, tmp_path):
    """A sweep that runs shows its plan without timing probes; that of such a level is named by --dry-run."""
    out = tmp_path / "r"
    words = [
        "--samples",
        "64",
        "--items-per-task",
        "3",
        "--tokens",
        "4",
        "--accum",
        "1",
        "--seeds",
        "1",
        "--extra-lr",
        "1,1e30",
    ]
    planned = qtablate(cache, "sweep", *words, "--dry-run", "--out", str(out))
    assert "Timing a few micro-batches of 2 conditions" in planned.stderr
    assert "The probe of tokens 4, accum 1, extra lr 1e+30 failed: training diverged" in planned.stdout
    done = qtablate(cache, "sweep", *words, "--controls", "blind", "--out", str(out))
    assert done.returncode == 1, done.stdout + done.stderr
    found = {float(row["extra_lr"]): row["status"] for row in rows(out / "cells.csv")}
    assert found == {1.0: "ok", 1e30: "failed"}
    for line in (
        "Plan of ",
        "[2/2] tokens 4, accum 1, extra lr 1",
        "1 of 2 cells failed; the same command tries them again.",
    ):
        assert line in done.stderr
        assert line not in done.stdout
    assert done.stdout.startswith("No recommendation: ")
    assert "Written to " in done.stdout
    assert "Warning: 1 of 2 cells have not finished; 1 failed: 1 with '" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_two_ranks_give_the_cell_of_one(finished, cache, tmp_path):
    """Losses within 1e-4 and the same answers but for near-ties, under the same key. The other cell cannot be written."""
    out = tmp_path / "r"
    lost, key = (row["key"] for row in rows(finished / "cells.csv") if row["extra_num_query_tokens"] == "4")
    (out / "cells" / lost / "train.csv").mkdir(parents=True)
    results = swept(cache, *SMALL[:4], "--tokens", "4", *SMALL[6:], "--processes-per-cell", "2", "--out", out)
    assert sorted(results.cells["status"]) == ["failed", "ok"]
    plan = make_plan(results.sweep.config, cache / "features")
    assert "each by 2 processes on 64 samples" in plan_table(plan, Forecast()).note
    assert "the gradient's noise is not measured" in " ".join(explain_defaults(plan, Forecast()))
    record = json.loads((out / "cells" / lost / "record.json").read_text())
    assert (record["status"], record["error"].partition(":")[0]) == ("failed", "rank 0 of 2")
    assert "train.csv cannot be written (Is a directory)" in record["traceback"]
    two, one = out / "cells" / key, finished / "cells" / key
    steps, same = rows(two / "train.csv"), rows(one / "train.csv")
    assert [float(row["loss"]) for row in steps] == pytest.approx([float(row["loss"]) for row in same], rel=1e-4)
    assert [row["supervised_tokens"] for row in steps] == [row["supervised_tokens"] for row in same]
    assert {row["grad_noise"] for row in steps} == {""} != {row["grad_noise"] for row in same}
    for mine, other in zip(rows(two / "answers.csv"), rows(one / "answers.csv"), strict=True):
        scores, others = ([float(score) for score in row["scores"].split(";")] for row in (mine, other))
        assert scores == pytest.approx(others, abs=1e-2)
        first, second = sorted(others)[:-3:-1]
        assert mine["predicted"] == other["predicted"] or first - second < 2e-2


def test_what_was_left_out_is_still_said_when_the_cache_is_gone(tmp_path):
    """Which clips cannot be decoded is known from the cache; the cells that left them out are never run again."""
    folder, cache = tmp_path / "b", tmp_path / "cache"
    export_world(folder, 2)
    broken = sorted((folder / "video").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:200])
    words = ["--bench", f"mvbench:{folder}", "--samples", "16", "--tokens", "0", "--accum", "1", "--seeds", "1"]
    swept(cache, *words, "--out", tmp_path / "r")
    first = json.loads((tmp_path / "r/sweep.json").read_text())
    assert broken.name in str(first["problems"])
    assert rows(tmp_path / "r/cells.csv")[0]["n_items"] == str(first["items"])
    shutil.rmtree(cache)
    records = {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("record.json")}
    swept(cache, *words, "--out", tmp_path / "r")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "r").rglob("record.json")} == records  # nothing ran
    second = json.loads((tmp_path / "r/sweep.json").read_text())
    assert (second["problems"], second["items"]) == (first["problems"], first["items"])


def test_several_scorers_and_a_task_whose_clips_are_gone(tmp_path):
    """All answers are read in every way; what is left out is said in the table of tasks."""
    folder, cache = tmp_path / "b", tmp_path / "cache"
    export_world(folder, 2)
    entries = json.loads((folder / "json" / "moving_count.json").read_text())
    gone = [entry | {"video": f"gone{n}.mp4"} for n, entry in enumerate(entries)]
    (folder / "json" / "fine_grained_pose.json").write_text(json.dumps(gone))
    words = ["--bench", f"mvbench:{folder}", "--samples", "16", "--tokens", "0", "--accum", "1", "--seeds", "1"]
    words += ["--controls", "blind", "--scorers", "letter,likelihood,generate,circular", "--out", str(tmp_path / "r")]
    swept(cache, *words)
    report = (tmp_path / "r" / "report.md").read_text()
    assert "| fine_grained_pose | 0 of 2 |" in report
    assert "2 items of 1 tasks are left out" in report
    assert "## Scorer agreement" in report
    [cell] = rows(tmp_path / "r" / "cells.csv")
    [choices] = rows(tmp_path / "r" / "scorer_agreement.csv")
    assert choices["letter"] == cell["accuracy"]  # the first decides the score
    given = rows(next((tmp_path / "r" / "cells").iterdir()) / "scorers.csv", ())
    assert len(given) == int(cell["n_items"]) == 38
    right = sum(row["letter"] == row["gold"] for row in given) / 38
    assert right == pytest.approx(float(cell["accuracy"]), abs=1e-5)
    assert all(row["circular"] in ("-1", row["letter"]) for row in given)  # the first rotation is the item as it is


def test_too_many_bad_samples_stop_a_sweep(tmp_path):
    folder, cache = tmp_path / "b", tmp_path / "cache"
    export_world(folder, 1)
    clips = sorted((folder / "video").iterdir())
    for clip in clips[:2]:
        clip.write_bytes(clip.read_bytes()[:300])
    samples = [{"video": clip.name, "QA": [{"q": "What moves?", "a": "a disc"}]} for clip in clips[:10]]
    samples[9]["video"] = "gone.mp4"
    (tmp_path / "t.json").write_text(json.dumps(samples))
    words = [
        "--train",
        str(tmp_path / "t.json"),
        "--media-root",
        str(folder / "video"),
        "--samples",
        "16",
        "--items-per-task",
    ]
    words += ["1", "--tokens", "0", "--accum", "1", "--seeds", "1", "--controls", "blind", "--out", str(tmp_path / "r")]
    message = "3 of 10 training samples cannot be used, more than --max-invalid 0.1 allows: sample 9: missing video"
    with pytest.raises(DataError, match=message):
        swept(cache, *words)
    assert not list((tmp_path / "r").glob("cells/*"))
    swept(cache, *words, "--max-invalid", "0.3")
    problems = json.loads((tmp_path / "r/sweep.json").read_text())["problems"]
    assert sorted(one["of"] for one in problems) == ["sample"] * 3


def test_twelve_kinds_of_broken_input_are_counted_and_change_no_other_answer(tmp_path):
    folder, cache = tmp_path / "b", tmp_path / "cache"
    export_world(folder, 1)
    words = ["--bench", f"mvbench:{folder}", "--samples", "16", "--tokens", "0", "--accum", "1", "--seeds", "1"]
    words += ["--controls", "blind", "--max-invalid", "0.5"]
    swept(cache, *words, "--out", tmp_path / "clean")
    good = json.loads((folder / "json" / "moving_count.json").read_text())[0]
    video = folder / "video"
    (video / "cut.mp4").write_bytes((video / good["video"]).read_bytes()[:300])
    (video / "text.mp4").write_text("no video")
    (video / "empty").mkdir()
    changes = {
        "missing video": {"video": "gone.mp4"},
        "broken video": {"video": "text.mp4"},
        "truncated or broken": {"video": "cut.mp4"},
        "no frames": {"video": "empty"},
        "gold not among candidates": {"answer": "none of them"},
        "duplicate gold": {"candidates": [good["answer"], good["answer"]]},
        "malformed item": {"question": 3},
        "malformed candidates": {"candidates": [1, 2]},
        "path leaves the root": {"video": "../../secret.mp4"},
        "empty time span": {"start": 2.0, "end": 1.0},
        "malformed time span": {"start": "soon"},
        "start past the end": {"start": 900.0, "end": 901.0},
    }
    (folder / "json" / "broken.json").write_text(json.dumps([good | change for change in changes.values()]))
    swept(cache, *words, "--out", tmp_path / "r")
    sweep = json.loads((tmp_path / "r/sweep.json").read_text())
    named = {one["subject"]: one["kind"] for one in sweep["problems"]}
    assert set(named) == {f"broken-{n:04d}" for n in range(12)}
    for number, kind in enumerate(changes):
        expected = {"truncated or broken": ("truncated video", "broken video"), "malformed candidates": ("malformed item",)}
        assert named[f"broken-{number:04d}"] in expected.get(kind, (kind,)), kind
    assert "| broken | 0 of 12 |" in (tmp_path / "r" / "report.md").read_text()
    first, second = (rows(next((tmp_path / n / "cells").iterdir()) / "answers.csv") for n in ("clean", "r"))
    assert first == second
    assert len(first) == 2 * 20
