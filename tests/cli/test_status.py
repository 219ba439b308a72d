"""`qtablate status`: where every cell of a sweep stands."""

import dataclasses
import json
import os

import pytest
from finished_cells import finished_folder
from launch import here

from qtablate.claims.owner import Owner, this_process
from qtablate.execute.events import Progress
from qtablate.records import Record
from qtablate.store import Store
from qtablate.sweep.standing import seconds_left, standings

ELSEWHERE = Owner("node3", "boot", 17, "1", job="Slurm job 17_3")


@pytest.fixture
def store(tmp_path) -> Store:
    """Two conditions with four seeds: three cells are finished, one failed, one damaged, two claimed, one untouched."""
    store = finished_folder(
        tmp_path / "r",
        {0: 0.5, 32: 0.7},
        seeds=(1, 2, 3, 4),
        unfinished=[(32, 2), (32, 3), (32, 4), (0, 4)],
        failed=[(32, 1)],
    )
    keys = {(c.condition["extra_num_query_tokens"], c.seed): c.key for c in store.read_sweep().cells}
    store.cell_file(keys[0, 4], "").mkdir()
    store.cell_file(keys[0, 4], "record.json").write_text("{")
    running = {"progress": dataclasses.asdict(Progress("train", 150, 300, 1.25))}
    store.claims.take(keys[32, 2], this_process(), running)
    store.claims.take(keys[32, 3], ELSEWHERE, {})
    store.write_record(Record(keys[32, 2], "running", {}))
    [silent] = store.root.glob(f"claims/{keys[32, 3]}.*")
    os.utime(silent, (0, 0))
    return store


def test_every_cell_stands_somewhere(store):
    found = {cell.name: cell for cell in standings(store, {})}
    assert {name: cell.status for name, cell in found.items()} == {
        "tokens 0, accum 1, seed 1": "finished",
        "tokens 0, accum 1, seed 2": "finished",
        "tokens 0, accum 1, seed 3": "finished",
        "tokens 0, accum 1, seed 4": "damaged",
        "tokens 32, accum 1, seed 1": "failed",
        "tokens 32, accum 1, seed 2": "running",
        "tokens 32, accum 1, seed 3": "silent",
        "tokens 32, accum 1, seed 4": "waiting",
    }
    assert found["tokens 32, accum 1, seed 1"].error == "out of memory"
    assert found["tokens 32, accum 1, seed 2"].progress == Progress("train", 150, 300, 1.25)
    assert found["tokens 32, accum 1, seed 3"].owner == "Slurm job 17_3 on node3"
    assert found["tokens 0, accum 1, seed 1"].seconds == 12.0


def test_a_job_of_a_scheduler_counts_until_it_claims_its_cell(store):
    queued = {cell.key: "job 4_1 (Resources)" for cell in standings(store, {})}
    found = [cell.status for cell in standings(store, queued)]
    assert found == ["finished"] * 3 + ["queued", "queued", "running", "silent", "queued"]


def test_the_time_left_is_that_of_what_is_not_finished(store):
    cells = standings(store, {})
    # four untouched, and 5/8 of the one that runs: training is three quarters of a cell
    assert seconds_left(cells) == pytest.approx(12.0 * (4 + 1 - 0.5 * 0.75))
    assert seconds_left([cell for cell in cells if cell.status != "running"]) is None
    assert seconds_left([cell for cell in cells if cell.status != "finished"]) is None


@pytest.mark.parametrize("columns", [80, 140])
def test_it_is_shown_within_the_terminal(store, monkeypatch, columns):
    monkeypatch.setattr("qtablate.cli.console.PIPE_WIDTH", columns)
    head, sweeps, _, *rest = here("status", store.root).splitlines()
    counts = "3 of 8 cells finished, 1 running, 1 silent, 1 failed, 1 damaged, 1 waiting"
    assert head.endswith(f"r: {counts}; about 56 s left at 1 at once")
    assert sweeps == "No sweep runs here."
    assert max(map(len, rest)) <= columns
    assert "out of memory" in " ".join(rest)
    if columns == 140:
        for part in ("step 150/300, loss 1.25", "Slurm job 17_3 on node3", "tokens 32, accum 1, seed 1"):
            assert part in " ".join(rest)


def test_scripts_read_it_as_json(store):
    said = json.loads(here("status", store.root, "--json"))
    assert said["counts"] == dict.fromkeys(("running", "silent", "failed", "damaged", "waiting"), 1) | {
        "finished": 3,
        "queued": 0,
        "not needed": 0,
    }
    assert [cell["seed"] for cell in said["cells"]] == [1, 2, 3, 4] * 2


def test_a_folder_without_a_sweep_is_one_message(tmp_path):
    assert "holds no sweep.json" in here("status", tmp_path, code=2)
