"""Axes as data: one declaration is enough for a new axis; and the axes of beta2 and of frames, swept on nano."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launch import rows
from settings import config

import qtablate
from qtablate import run_sweep

DECLARATION = """\
    flavor: Annotated[
        Literal["plain", "salted", "burnt"],
        Axis("flavor", "flavor", "A made-up axis that changes nothing.", ("plain",), incorrect=("burnt",)),
    ] = "plain"

"""


def test_an_axis_is_added_by_one_declaration(tmp_path):
    """It is found on the command line, in cells.csv, in the contrasts and in the report."""
    package = tmp_path / "qtablate"
    shutil.copytree(Path(qtablate.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    source = (package / "axes.py").read_text()
    place = source.index("    @property\n    def effective_batch_size")
    (package / "axes.py").write_text(source[:place] + DECLARATION + source[place:])
    env = os.environ | {"PYTHONPATH": str(tmp_path), "QTABLATE_CACHE": str(tmp_path / "cache"), "COLUMNS": "100"}

    def command(*words: str) -> subprocess.CompletedProcess:
        line = [sys.executable, "-m", "qtablate", *words]
        return subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)

    assert "--flavor A,B,..." in command("sweep", "--help").stdout
    refused = command("sweep", "--flavor", "sour")
    assert (refused.returncode, refused.stderr) == (2, "error: --flavor: unknown value 'sour'; known: plain, salted, burnt\n")
    grid = ["--tokens", "0", "--accum", "1", "--seeds", "1", "--flavor", "plain,salted,burnt", "--controls", "blind"]
    done = command("sweep", *grid, "--samples", "16", "--items-per-task", "1", "--out", "r")
    assert done.returncode == 0, done.stdout + done.stderr
    cells = rows(tmp_path / "r" / "cells.csv")
    assert [(row["flavor"], row["incorrect"]) for row in cells] == [("plain", ""), ("salted", ""), ("burnt", "flavor=burnt")]
    contrasts = rows(tmp_path / "r" / "contrasts.csv")
    whole = [row for row in contrasts if row["task"] == "all"]
    assert {(row["axis"], row["level"], row["baseline"]) for row in whole} >= {("flavor", "salted", "plain")}
    assert "burnt (incorrect)" in (tmp_path / "r" / "report.md").read_text()


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("axes")
    axes = {"tokens": (4,), "accum": (1, 2), "adam_beta2": "0.999,scaled", "frames": (4, 8)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QTABLATE_CACHE", str(folder / "cache"))
        return run_sweep(config(**axes, samples=48, items_per_task=1, out=folder / "r"))


def test_beta2_and_frames_are_swept(swept):
    cells = swept.cells
    assert set(cells["status"]) == {"ok"}
    named = set(cells[["accumulate_grad_batches", "adam_beta2", "frames"]].itertuples(index=False, name=None))
    # at the reference batch, `scaled` is the default
    assert named == {(1, 0.999, 4), (1, 0.999, 8), (2, 0.999, 4), (2, 0.999, 8), (2, "scaled", 4), (2, "scaled", 8)}
    loss = cells.set_index(["accumulate_grad_batches", "adam_beta2", "frames"])["train_loss"]
    assert loss[2, 0.999, 4] != loss[2, 0.999, 8]  # other pixels are seen
    assert loss[2, 0.999, 8] != loss[2, "scaled", 8]  # and the optimizer averages otherwise
    assert set(cells["visual_tokens"]) == {6}  # VideoChat2's queries see all frames at once


def test_beta2_and_frames_are_compared(swept):
    whole = swept.contrasts[swept.contrasts["task"] == "all"]
    assert {("adam_beta2", "scaled"), ("frames", 8)} <= set(zip(whole["axis"], whole["level"], strict=True))


def test_the_tables_hold_the_axes(swept):
    with (swept.store.root / "cells.csv").open() as file:
        header = next(csv.reader(file))
    assert {"adam_beta2", "frames"} <= set(header)
    text = (swept.store.root / "report.md").read_text() if (swept.store.root / "report.md").exists() else ""
    assert text == ""  # run_sweep writes the tables of cells; `qtablate report` the rest
