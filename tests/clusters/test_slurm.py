"""Sweeps on a real Slurm of two nodes: the tables are those of this machine alone, whatever is killed on the way.

python -m pytest -m slow tests/clusters/test_slurm.py
"""

import json
import os
import signal
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from launch import command, environment, here, qtablate, rows, running, tables, wait_until
from slurm_cluster import SlurmCluster, missing, slurm_cluster

from qtablate.execute.slurm_jobs import JobFile

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()), reason=f"a real Slurm is needed: {missing()}"),
    pytest.mark.skipif(find_spec("submitit") is None, reason="the package submitit is not installed"),
]

GRID = ["--tokens", "0,4", "--accum", "1", "--seeds", "1,2", "--samples", "640", "--items-per-task", "3", "--controls", "blind"]
SLURM = ["--executor", "slurm", "--slurm", "time=5"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def local(cache, tmp_path_factory) -> dict[str, list[dict[str, str]]]:
    """The tables of the same sweep on this machine alone."""
    out = tmp_path_factory.mktemp("local") / "r"
    done = qtablate(cache, "sweep", *GRID, "--out", str(out))
    assert done.returncode == 0, done.stderr
    return tables(out)


@pytest.fixture(autouse=True)
def _environment(cluster, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", cluster.environment["SLURM_CONF"])


def sweep(cache: Path, out: Path, *more: str):
    return running(command("sweep", *GRID, *SLURM, *more, "--out", str(out)), environment(cache))


def cells(out: Path, status: str) -> list[str]:
    path = out / "cells.csv"
    return [row["key"] for row in rows(path) if row["status"] == status] if path.exists() else []


def trained(out: Path) -> int:
    return len(list(out.glob("cells/*/train.csv")))


def finished(out: Path) -> int:
    return len([path for path in out.glob("cells/*/record.json") if '"status": "ok"' in path.read_text()])


def claimed(out: Path) -> list[Path]:
    return [path for path in out.glob("claims/*.json") if not path.name.startswith("sweep-")]


def test_a_killed_step_and_a_driver_that_comes_back_change_no_table(cluster: SlurmCluster, cache, local, tmp_path):
    out = tmp_path / "r"
    with sweep(cache, out) as driver:
        assert wait_until(lambda: claimed(out), 180)  # a cell runs
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert JobFile(out).read()
    before = cluster.call("squeue", "-h", "-r", "-o", "%i").split()
    assert before  # jobs outlive the driver
    text = here("status", out)
    assert " running" in text
    assert wait_until(lambda: finished(out) >= 1, 180)  # and their cells are finished without it
    with sweep(cache, out) as driver:
        assert wait_until(lambda: claimed(out), 180)
        [cell, *_] = claimed(out)
        step = cluster.step_of(json.loads(cell.read_text())["owner"]["job"].removeprefix("Slurm job "))
        os.kill(step, signal.SIGKILL)
        said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert "ended as" in said  # and was submitted again
    assert wait_until(lambda: not cluster.call("squeue", "-h", "-r", "-o", "%i").split(), 120), said
    assert tables(out) == local
    assert not (out / "claims").exists()
    assert not (out / "slurm").exists()


def test_a_node_that_dies_takes_its_jobs_to_another(cluster: SlurmCluster, cache, local, tmp_path):
    out = tmp_path / "r"
    with sweep(cache, out) as driver:
        assert wait_until(lambda: len(claimed(out)) == 2, 180)
        cluster.kill_node("node2")
        for pid in cluster.steps_of("node2"):
            os.kill(pid, signal.SIGKILL)
        for _ in range(600):
            if driver.poll() is not None:
                break
            time.sleep(0.5)
        said = driver.communicate(timeout=10)[0]
    cluster.start_node("node2")
    assert driver.returncode == 0, said
    assert tables(out) == local


def test_a_job_saves_before_its_time_limit_and_is_queued_again(cluster: SlurmCluster, cache, tmp_path):
    """USR2, as Slurm sends it before the limit; here it is sent as soon as the cell trains."""
    out = tmp_path / "r"
    grid = [
        "--tokens",
        "0",
        "--accum",
        "1",
        "--seeds",
        "1",
        "--samples",
        "3200",
        "--items-per-task",
        "3",
        "--controls",
        "blind",
    ]
    alone = qtablate(cache, "sweep", *grid, "--out", str(tmp_path / "alone"))
    assert alone.returncode == 0, alone.stderr
    words = command("sweep", *grid, *SLURM, "--checkpoint-minutes", "0", "--out", str(out))
    with running(words, environment(cache)) as driver:
        assert wait_until(lambda: '"phase": "train"' in "".join(path.read_text() for path in claimed(out)), 180)
        [job] = JobFile(out).read().values()
        assert not list(out.glob("cells/*/checkpoint.pt"))
        cluster.call("scancel", "--signal=USR2", job.job)
        assert wait_until(lambda: list(out.glob("cells/*/checkpoint.pt")), 60)
        assert wait_until(lambda: "Restarts=1" in cluster.call("scontrol", "show", "job", job.job), 60)
        said, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, said
    assert tables(out) == tables(tmp_path / "alone")


def test_what_slurm_refuses_is_one_message(cache, tmp_path):
    done = qtablate(cache, "sweep", *GRID, *SLURM[:2], "--slurm", "partition=none,time=5", "--out", str(tmp_path / "r"))
    assert done.returncode == 2
    assert "Slurm refuses the jobs" in done.stderr
    assert "invalid partition" in done.stderr.lower()
    assert "Traceback" not in done.stderr
