"""The template of a sweep's cells: cells that share what it has read do not influence one another."""

import csv
import gc
import importlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import forkserver
from pathlib import Path

import pytest
import template_jobs
import torch
from converted_folder import write_converted_folder
from launch import wait_until
from safetensors import SafetensorError
from settings import compute, config

from qtablate import run_sweep
from qtablate.cell import run as cell_run
from qtablate.cell import template
from qtablate.cell.inputs import CellInputs, read_inputs
from qtablate.cell.jobs import CellJob
from qtablate.cell.run import run_cell
from qtablate.execute import local
from qtablate.execute.local import run_jobs
from qtablate.execute.worker import (
    PRELOADED_DATA,
    Template,
    end_fork_server,
    fork_server_of_its_own,
    start_fork_server,
)
from qtablate.sweep.events import SweepEvent
from qtablate.sweep.plan import SweepPlan, make_plan

WRITTEN = ("answers.csv", "train.csv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three clips to ask about, one to train on, and a small model of the original's shape."""
    folder: Path = tmp_path_factory.mktemp("template")
    write_converted_folder(folder, (16, 16, 16, 16))
    return folder


@pytest.fixture(autouse=True)
def nothing_read(folder, monkeypatch) -> Iterator[None]:
    """This process has read no inputs, and the feature cache is the folder's."""
    monkeypatch.setenv("QTABLATE_CACHE", str(folder / "cache"))
    template._inputs.clear()
    yield
    template._inputs.clear()
    gc.unfreeze()


def plan(folder: Path, out: Path, **changes: object) -> SweepPlan:
    """A sweep of cells of four steps, with its features computed."""
    planned = make_plan(sweep_config(folder, out, **changes))
    compute(planned)
    return planned.rekeyed()


def sweep_config(folder: Path, out: Path, **changes: object):
    files = {"model": str(folder / "model"), "bench": f"mvbench:{folder}", "train": f"{folder}/train.json"}
    small = {"media_root": f"{folder}/video", "tokens": (4,), "batch_size": (1,), "samples": 4, "out": out, "jobs": 1}
    return config(**{**files, **small, "controls": ("blind", "reversed"), **changes})


def job_of(planned: SweepPlan) -> CellJob:
    [cell] = planned.cells
    return planned.cell_job(cell)


def without_times(path: Path) -> list[list[str]]:
    """A file's cells as they are written, the column of seconds aside."""
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    return [header, *([value for name, value in zip(header, line, strict=True) if name != "seconds"] for line in lines)]


def written(planned: SweepPlan) -> dict[tuple[str, str], list[list[str]]]:
    """What every cell of a sweep has written."""
    files = {(cell.key, name): planned.store.cell_file(cell.key, name) for cell in planned.cells for name in WRITTEN}
    return {key: without_times(path) for key, path in files.items()}


def test_inputs_are_given_away_once_and_only_for_an_equal_spec(folder, tmp_path):
    spec = job_of(plan(folder, tmp_path / "r")).inputs
    template.read_all([spec])
    assert template.take(replace(spec, samples=spec.samples + 1)) is None
    assert template.take(replace(spec, frames=4)) is None
    equal = replace(spec, controls=tuple(spec.controls))
    taken = template.take(equal)
    assert isinstance(taken, CellInputs)
    assert (len(taken.samples), len(taken.items), set(taken.benchmark_features)) == (1, 3, {"full", "reversed"})
    assert template.take(spec) is None
    shown, turned = taken.benchmark_features["full"], taken.benchmark_features["reversed"]
    assert shown.keys() == turned.keys()
    assert not any(torch.equal(shown[clip], turned[clip]) for clip in shown)


def test_what_cannot_be_read_is_left_out_and_the_cell_says_why(folder, tmp_path):
    job = job_of(plan(folder, tmp_path / "r"))
    shutil.copytree(folder / "model", tmp_path / "broken")
    [weights] = (tmp_path / "broken").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    broken, missing = (
        replace(job, data=job.data.model_copy(update={"model": model})) for model in (str(tmp_path / "broken"), "none")
    )
    template.read_all([broken.inputs, job.inputs, missing.inputs])
    assert len(template._inputs) == 1
    assert template.take(broken.inputs) is None
    with pytest.raises(SafetensorError, match="invalid header length"):
        run_cell(broken, lambda _: None)
    assert template.take(job.inputs) is not None


def test_a_cell_from_the_template_writes_what_one_that_reads_its_own_writes(folder, tmp_path, monkeypatch):
    """Byte for byte; and what cells share is as it was afterwards."""
    one, other = (plan(folder, tmp_path / name) for name in ("own", "taken"))
    run_cell(job_of(one), lambda _: None)
    job = job_of(other)
    template.read_all([job.inputs])
    [(_, held)] = template._inputs
    read: list[object] = []
    monkeypatch.setattr(cell_run, "read_inputs", lambda spec: read.append(spec) or read_inputs(spec))
    run_cell(job, lambda _: None)
    assert read == []
    assert written(one) == written(other)
    fresh = read_inputs(job.inputs)
    assert (held.samples, held.items) == (fresh.samples, fresh.items)
    for kept, again in ((held.training_features, fresh.training_features), *zip_features(held, fresh)):
        assert kept.keys() == again.keys()
        assert all(torch.equal(kept[clip], again[clip]) for clip in kept)
    run_cell(job, lambda _: None)  # nothing is left: it reads its own
    assert read == [job.inputs]
    assert written(one) == written(other)


def zip_features(held: CellInputs, fresh: CellInputs) -> list[tuple]:
    assert held.benchmark_features.keys() == fresh.benchmark_features.keys()
    return [(held.benchmark_features[control], fresh.benchmark_features[control]) for control in held.benchmark_features]


def test_cells_of_one_sweep_do_not_influence_one_another(folder, tmp_path, monkeypatch, capfd):
    """Each alone, with inputs that it read itself, writes the same. The sweep's later cells never open the model: it is gone by
    then. Both compute with the vectors that conftest.py sets for this process."""
    axes = {"tokens": (0, 4), "frames": (4, 8)}
    alone, shared = (plan(folder, tmp_path / name, **axes) for name in ("alone", "shared"))
    for cell in alone.cells:
        run_cell(alone.cell_job(cell), lambda _: None)
    weights = folder / "model" / "model.safetensors"
    keys: list[str] = []

    def lose_the_model(event: SweepEvent) -> None:
        if event.event and event.event.kind == "done":
            keys.append(event.event.key)
            weights.unlink(missing_ok=True)
        if event.kind == "ended":  # the sweep itself looks for it again
            shutil.copy(tmp_path / "weights", weights)

    shutil.copy(weights, tmp_path / "weights")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    run_sweep(sweep_config(folder, tmp_path / "shared", **axes), lose_the_model)
    assert len(keys) == len({cell.key for cell in shared.cells} & set(keys)) == 4
    assert all(shared.store.finished(key) for key in keys)
    assert written(shared) == written(alone)
    assert len({str(lines) for (_, name), lines in written(shared).items() if name == "answers.csv"}) == 4
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def light(monkeypatch) -> Iterator[None]:
    """A fork server that imports template_jobs alone, to be quick; it finds that through PYTHONPATH."""
    folder = str(Path(template_jobs.__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setattr(local, "_PRELOAD", [])
    yield
    end_fork_server()  # other tests want one that has imported torch


def described(jobs: dict[str, Path | None], megabytes: int | None, workers: int = 1) -> Iterator:
    held = None if megabytes is None else Template("template_jobs", megabytes)
    return run_jobs("template_jobs:describe", list(jobs.items()), workers, template=held)


def results(events) -> dict[str, tuple[int, int, int]]:
    return {event.key: event.result for event in events if event.kind == "done"}


def runs(process: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_every_process_has_what_its_fork_server_read_and_others_have_not(light):
    """A fork server that ran before has read other data, or none."""
    before = results(described({"a": None}, None))
    first = results(described({"a": None, "b": None}, 1))
    second = results(described({"a": None}, 2))
    behind = results(described({"a": None}, None))
    assert {total for total, _, _ in first.values()} == {1 << 20}
    assert [(reader, server) for _, reader, server in first.values()] == [(first["a"][2],) * 2] * 2  # one server read it, once
    assert second["a"][0] == 2 << 20
    assert (before["a"][:2], behind["a"][:2]) == ((0, 0), (0, 0))
    assert len({servers["a"][2] for servers in (before, first, second, behind)}) == 4


@pytest.mark.parametrize("how", ["ended", "closed", "raised"])
def test_the_fork_server_and_what_names_its_data_are_gone_afterwards(light, tmp_path, how):
    events = described({"a": None if how == "ended" else tmp_path / "never"}, 1)
    assert [next(events).kind, next(events).kind] == ["started", "progress"]
    process, file = forkserver._forkserver._forkserver_pid, Path(os.environ[PRELOADED_DATA])
    assert runs(process)
    assert file.is_file()
    if how == "ended":
        assert [event.kind for event in events] == ["done"]
    elif how == "closed":
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt)
    assert PRELOADED_DATA not in os.environ
    assert not file.parent.exists()
    assert forkserver._forkserver._forkserver_pid is None
    assert not runs(process)


def test_a_killed_fork_server_is_replaced_and_reads_the_template_again(light, tmp_path):
    events = described({"a": tmp_path / "go", "b": None, "c": None}, 1)
    found = []
    for event in events:
        found.append(event)
        if (event.key, event.kind) == ("a", "progress"):
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
            (tmp_path / "go").touch()
    done = results(found)
    assert {key: total for key, (total, _, _) in done.items()} == dict.fromkeys("abc", 1 << 20)
    readers = {key: reader for key, (_, reader, _) in done.items()}
    assert readers["a"] != readers["b"] == readers["c"]
    assert PRELOADED_DATA not in os.environ
    assert wait_until(lambda: not any(map(runs, readers.values())), 10)


@pytest.mark.skipif(sys.platform != "linux", reason="memory that processes share is counted by Linux")
def test_processes_share_the_memory_of_their_template(light, tmp_path):
    """RSS counts all that a process has, PSS its share of it: of four, and the fork server, a fifth each."""
    jobs = [(name, (tmp_path, 4)) for name in "abcd"]
    found = results(run_jobs("template_jobs:measure", jobs, 4, template=Template("template_jobs", 200)))
    assert len(found) == 4
    for rss, pss in found.values():
        assert rss > 200
        assert pss < 100


def test_a_fork_server_in_the_middle_of_an_import_is_ended_at_once(tmp_path):
    """As on Ctrl-C while a large model is read."""
    (tmp_path / "slow_template.py").write_text("import time\ntime.sleep(60)\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        patch.setenv("PYTHONPATH", str(tmp_path))
        with fork_server_of_its_own([], Template("slow_template", None)):
            start_fork_server()
            began = time.monotonic()
        assert time.monotonic() - began < 10
    assert forkserver._forkserver._forkserver_pid is None


def test_where_nobody_is_told_of_ended_children_the_fork_server_can_be_replaced(light):
    """SIGCHLD may be ignored, and that is inherited by a program that is started."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        start_fork_server()
        end_fork_server()
        end_fork_server()
        assert forkserver._forkserver._forkserver_pid is None
    finally:
        signal.signal(signal.SIGCHLD, before)
    start_fork_server()
    end_fork_server()


def test_a_template_whose_data_are_gone_is_none(monkeypatch, tmp_path):
    """A cleaner of temporary folders may come between: cells then read their inputs themselves."""
    monkeypatch.setenv(PRELOADED_DATA, str(tmp_path / "gone.pickle"))
    importlib.reload(template)
    assert template._inputs == []
