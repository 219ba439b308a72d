"""A cell on a machine that does not see its results folder: the files that it sends back are those of a cell that does."""

import json
from dataclasses import replace

from launch import rows, swept

from qtablate.config import validate_config
from qtablate.execute.local import run_jobs
from qtablate.sweep.plan import make_plan

TINY = ["--tokens", "4", "--accum", "1", "--seeds", "1", "--samples", "32", "--items-per-task", "1", "--controls", "blind"]


def test_its_files_are_those_of_a_cell_that_sees_the_folder(tmp_path, monkeypatch):
    out, cache = tmp_path / "r", tmp_path / "cache"
    swept(cache, *TINY, "--out", out)
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "another"))
    values = {"tokens": "4", "accum": "1", "seeds": "1"}
    config = validate_config(
        {
            "grid": values,
            "train": {"samples": 32},
            "data": {"items_per_task": 1},
            "eval": {"controls": "blind"},
            "run": {"out": tmp_path / "not there"},
        }
    )
    plan = make_plan(config, tmp_path / "unseen" / "features")
    [cell] = plan.cells
    job = replace(plan.cell_job(cell), store=tmp_path / "not there")
    *_, done = run_jobs("qtablate.cell.elsewhere:run_cell_elsewhere", [(cell.key, job)], 1)
    assert done.kind == "done", done.traceback
    files = done.result
    assert not (tmp_path / "not there").exists()
    assert not (tmp_path / "unseen").exists()
    original = out / "cells" / cell.key
    assert set(files) == {path.name for path in original.iterdir()}
    received = tmp_path / "received"
    received.mkdir()
    for name, content in files.items():
        (received / name).write_bytes(content)
    for name in ("train.csv", "answers.csv"):
        assert rows(received / name) == rows(original / name)
    record = json.loads(files["record.json"])
    assert record["status"] == "ok"
    assert record["files"]["answers.csv"] == json.loads((original / "record.json").read_text())["files"]["answers.csv"]
