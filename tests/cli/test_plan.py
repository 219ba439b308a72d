"""The options of `sweep --dry-run` that tell what a grid can detect."""

import pytest
from launch import here

from qtablate.cell.jobs import Probed
from qtablate.execute.events import Event
from qtablate.report.results import MARGIN
from qtablate.sweep import estimate as estimates

SMALL = ["sweep", "--samples", "64", "--items-per-task", "1", "--tokens", "0,4", "--accum", "1"]


@pytest.fixture(autouse=True)
def probes(monkeypatch, tmp_path):
    """In place of the executor; an empty current folder."""

    def done(function, jobs, workers):
        for key, _ in jobs:
            yield Event(key, "done", result=Probed(0.1, 0.01, 300, 9, 9, 5))

    monkeypatch.setattr(estimates, "run_jobs", done)
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_the_plan_says_what_it_detects_and_writes_nothing(tmp_path):
    shown = here(*SMALL, "--dry-run")
    out = " ".join(shown.split())
    assert "\nWhat this grid can detect\n" in shown
    assert "extra tokens 4 - 0" in out
    assert f"What would detect a difference of {100 * MARGIN:g} (--margin)" in out
    assert "measured in the reference sweep of nano on the world" in out
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_deviations_and_the_margin_are_taken_from_the_command_line():
    out = " ".join(here(*SMALL, "--dry-run", "--seed-sd", "1.5", "--margin", "3.5").split())
    assert "What would detect a difference of 3.5 (--margin)" in out
    assert "Deviations: --seed-sd 1.5 points between seeds of one condition" in out
    assert "ONE SEED" in here(*SMALL, "--dry-run", "--seeds", "1")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dry-run", "--deviations", "."], "error: --deviations: . holds no sweep.json: name a folder that `qtablate sweep"),
        (["--dry-run", "--deviations", "nowhere"], "error: --deviations: nowhere holds no sweep.json"),
        (
            ["--dry-run", "--deviations", ".", "--seed-sd", "1"],
            "error: --deviations and --seed-sd both say how much seeds differ",
        ),
        (
            ["--seed-sd", "1"],
            "error: --seed-sd is for the plan alone, and this sweep would run: add --dry-run, or leave it out\n",
        ),
        (
            ["--margin", "1"],
            "add --dry-run, or leave it out (the report has a --margin of its own: qtablate report --margin)\n",
        ),
        (["--no-probes"], "error: --no-probes is for the plan alone, and this sweep would run: add --dry-run, or leave it out"),
        (["--dry-run", "--margin", "0"], "error: --margin: expected a positive number, got 0\n"),
    ],
)
def test_mistakes_get_one_message_and_write_nothing(words, message, tmp_path):
    out = here(*SMALL, *words, "--save-config", "all.yaml", code=2)
    assert message in out
    assert out.count("\n") == 1
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_a_plan_without_probes_starts_no_process_and_has_no_times(monkeypatch):
    timed = " ".join(here(*SMALL, "--dry-run").split())
    monkeypatch.setattr(estimates, "run_jobs", None)
    shown = " ".join(here(*SMALL, "--dry-run", "--no-probes").split())
    for text in ("seconds per step and per cell", " in all", "Timing"):
        assert text in timed
        assert text not in shown
    assert "6 cells, 6 to run" in shown
    assert "What this grid can detect" in shown
