"""How many cells run at once, and what is said to allow no more."""

import dataclasses
import shutil

import pytest
from launch import here
from settings import config

from qtablate.cell.jobs import Probed
from qtablate.errors import ModelError
from qtablate.execute.events import Event
from qtablate.execute.resources import Resources
from qtablate.model.directory import NANO, count_parameters
from qtablate.records import of_cell
from qtablate.run_config import RunConfig
from qtablate.sweep import at_once
from qtablate.sweep.at_once import OWN_MB, SHARED_MB, AtOnce, MemoryNeed, cells_at_once, memory_need
from qtablate.sweep.describe import plan_table
from qtablate.sweep.forecast import Forecast
from qtablate.sweep.plan import make_plan

GB = 1024.0


@pytest.mark.parametrize(
    ("there", "need", "processes", "per_gpu", "cells", "limit"),
    [
        (Resources(2), None, 1, 1, 2, "2 cores"),
        (Resources(1), None, 1, 1, 1, "1 core"),
        (Resources(8), None, 3, 1, 2, "8 cores"),
        (Resources(2), None, 3, 1, 1, "2 cores"),  # one at least
        (Resources(64, 2.5), None, 1, 1, 2, "the cgroup's quota of 2.5 cores"),
        (Resources(64, 0.5), None, 1, 1, 1, "the cgroup's quota of 0.5 cores"),
        (Resources(4, 8.0), None, 1, 1, 4, "4 cores"),
        (Resources(8, None, 16 * GB), MemoryNeed(5 * GB), 1, 1, 3, "memory: 5.0 GB a cell, of 16.0 GB"),
        (Resources(8, None, 15 * GB), MemoryNeed(5 * GB), 1, 1, 3, "memory: 5.0 GB a cell, of 15.0 GB"),
        (
            Resources(8, None, 16 * GB),
            MemoryNeed(2 * GB, 8 * GB, measured=False),
            1,
            1,
            4,
            "memory: ~10.0 GB a cell, 8.0 GB of it shared by all, of 16.0 GB",
        ),
        (Resources(8, None, 16 * GB), MemoryNeed(2 * GB), 2, 1, 4, "8 cores"),  # of equal limits the cores are named
        (Resources(8, None, 16 * GB), MemoryNeed(3 * GB), 2, 1, 2, "memory: 6.0 GB a cell, of 16.0 GB"),
        (Resources(8, None, 4 * GB), MemoryNeed(5 * GB), 1, 1, 1, "memory: 5.0 GB a cell, of 4.0 GB"),  # one at least
        (Resources(8, None, 4 * GB), MemoryNeed(1 * GB, 6 * GB), 1, 1, 1, None),
        (Resources(8, None, None), MemoryNeed(5 * GB), 1, 1, 8, "8 cores"),
        (Resources(8, None, 16 * GB), None, 1, 1, 8, "8 cores"),
        (Resources(2, 1.0, 1 * GB, 4), None, 1, 1, 4, "4 GPUs"),  # neither cores nor memory of the machine count then
        (Resources(2, None, None, 1), None, 1, 3, 3, "1 GPU, 3 cells on each"),
        (Resources(2, None, None, 4), None, 2, 1, 2, "4 GPUs"),
        (Resources(2, None, None, 3), None, 2, 2, 3, "3 GPUs, 2 cells on each"),
        (Resources(2, None, None, 3), None, 8, 1, 1, "3 GPUs"),
    ],
)
def test_the_least_limit_decides_and_is_named(there, need, processes, per_gpu, cells, limit):
    found = cells_at_once(there, need, processes, per_gpu)
    assert found.cells == cells
    if limit is not None:
        assert found.limit == limit


def test_memory_is_the_largest_peak_without_what_is_shared_or_follows_from_the_weights():
    million = {"vision": 2**20, "language_model": 2**20, "qformer": 2**20}  # 4 MiB of each in fp32
    assert memory_need([], million, False, "fp32") == MemoryNeed(OWN_MB + 16, SHARED_MB + 8, measured=False)
    assert memory_need([], million, False, "bf16") == MemoryNeed(OWN_MB + 16, SHARED_MB + 4, measured=False)
    assert memory_need([], million, True, "fp32") == MemoryNeed(OWN_MB + 32, SHARED_MB + 4, measured=False)
    assert memory_need([900, 1308], million, False, "fp32") == MemoryNeed(1000, SHARED_MB + 8)
    assert memory_need([200], million, False, "fp32").each_mb == 50  # never less than a quarter


def test_parameters_are_counted_by_part_without_torch(tmp_path):
    counts = count_parameters("nano")
    assert {"vision", "qformer", "projection", "language_model", "query_tokens"} == set(counts)
    assert sum(counts.values()) == 1_007_520  # results/nano: the model in the package
    folder = shutil.copytree(NANO, tmp_path / "model")
    (folder / "model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="cannot be read"):
        count_parameters(str(folder))


def test_finished_cells_say_what_a_cell_takes_before_probes_do(tmp_path, monkeypatch):
    monkeypatch.setattr(at_once, "read_resources", lambda: Resources(8, None, 16 * GB))
    plan = make_plan(config(tokens=(0, 4), samples=64, items_per_task=1, out=tmp_path / "r"), tmp_path)
    assert plan.at_once == AtOnce(8, "8 cores")
    parts = plan.config, plan.settings, plan.store, plan.cells
    assert at_once.decide(*parts, [9 * GB]).limit.startswith("memory: 9.0 GB a cell, 0.3 GB of it shared")
    record = of_cell(plan.cells[1], "ok")
    plan.store.write_record(dataclasses.replace(record, figures={"peak_memory_mb": 4 * GB}))
    assert at_once.decide(*parts, [9 * GB]) == AtOnce(4, "memory: 4.0 GB a cell, 0.3 GB of it shared by all, of 16.0 GB")
    assert at_once.decide(plan.config, plan.settings, plan.store, plan.cells[:1]).cells == 8  # another sweep's cell is no guide


def test_a_number_of_jobs_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(at_once, "read_resources", lambda: pytest.fail("the machine is not asked"))
    assert make_plan(config(jobs=7, samples=64, items_per_task=1, out=tmp_path / "r"), tmp_path).at_once == AtOnce(7, "--jobs")


@pytest.mark.parametrize(("jobs", "meant"), [("auto", None), (" auto ", None), ("3", 3), (3, 3), (None, None)])
def test_jobs_are_a_number_or_auto(jobs, meant):
    assert RunConfig(jobs=jobs).jobs == meant


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--jobs", "all"], "error: --jobs: 'all' is not a whole number; give a number, or auto\n"),
        (["--jobs", "0"], "error: --jobs: 0 is too small; the least is 1\n"),
        (["--cells-per-gpu", "0"], "error: --cells-per-gpu: expected a whole number of 1 or more, got 0\n"),
        (
            ["--jobs", "4", "--cells-per-gpu", "2"],
            "error: --cells-per-gpu 2 says how many cells --jobs auto runs on each GPU, and --jobs 4 says how many in all: "
            "leave one out\n",
        ),
    ],
)
def test_mistakes_get_one_message(words, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert here("sweep", *words, code=2).endswith(message)


def test_the_plan_says_how_many_cells_run_at_once_and_what_allows_no_more(tmp_path, monkeypatch):
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("qtablate.sweep.estimate.run_jobs", lambda *_: (one for one in ()))  # no probes
    monkeypatch.setattr(at_once, "read_resources", lambda: Resources(64, 3.0))
    words = ["sweep", "--samples", "64", "--items-per-task", "1", "--dry-run", "--jobs", "auto", "--out", str(tmp_path / "r")]
    assert "to run, 3 at once (the cgroup's quota of 3 cores), each on 64 samples" in " ".join(here(*words).split())
    monkeypatch.setattr(at_once, "read_resources", lambda: Resources(64, None, None, 2))
    assert "to run, 4 at once (2 GPUs, 2 cells on each), each on" in " ".join(here(*words, "--cells-per-gpu", "2").split())


def test_on_a_cluster_its_scheduler_decides(tmp_path):
    small = {"samples": 64, "items_per_task": 1, "executor": "slurm", "out": tmp_path / "r"}
    note = plan_table(make_plan(config(**small), tmp_path), Forecast()).note
    assert "1 to run, as many at once as Slurm starts, each on 64 samples" in note
    note = plan_table(make_plan(config(**small, jobs=3), tmp_path), Forecast()).note
    assert "1 to run, 3 at once (--jobs), each on 64 samples" in note


def test_a_dry_run_knows_the_memory_of_its_probes(tmp_path, monkeypatch):
    def probed(function, jobs, workers):
        yield from (Event(key, "done", result=Probed(0.1, 0.01, 5 * GB, 9, 9, 5)) for key, _ in jobs)

    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("qtablate.sweep.estimate.run_jobs", probed)
    monkeypatch.setattr(at_once, "read_resources", lambda: Resources(64, None, 11 * GB))
    words = ["sweep", "--samples", "64", "--items-per-task", "1", "--dry-run", "--out", str(tmp_path / "r")]
    said = " ".join(here(*words).split())
    assert "2 at once (memory: 5.0 GB a cell, 0.3 GB of it shared by all, of 11.0 GB), each on" in said
