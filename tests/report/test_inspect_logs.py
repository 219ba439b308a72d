"""Logs for Inspect AI: what stands in them, without it; and, where it is installed, what it reads and computes from them."""

import json
import os
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest
from finished_cells import finished_folder
from launch import here, rows
from settings import config

from qtablate.controls import FULL
from qtablate.datatypes import Item
from qtablate.errors import ConfigError, StoreError
from qtablate.report import inspect_logs
from qtablate.report.inspect_logs import write_inspect_logs
from qtablate.report.results import load
from qtablate.statistics.clustered import clustered_mean

OPTIONS = ("red", "a (B) <b>", "left\nright", "ü")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two seeds with and without extra tokens: one cell has failed, one is not finished."""
    root = tmp_path_factory.mktemp("inspect") / "r"
    return finished_folder(root, {0: 0.5, 4: 0.7}, seeds=(1, 2), failed=[(4, 2)], unfinished=[(0, 2)])


@pytest.fixture
def texts(monkeypatch):
    """The benchmark of the folder, which is none that could be opened."""
    items = [Item(f"item-{n:03d}", "ab"[n % 2], f"clip-{n // 2}", f"What moves, {n}?", OPTIONS, 0) for n in range(60)]
    monkeypatch.setattr(inspect_logs, "scored_benchmark", lambda *_, **__: (SimpleNamespace(items=items), ""))


def logs(folder):
    """By name of the model."""
    found = [json.loads(path.read_text(), parse_constant=pytest.fail) for path in folder.glob("*.json")]
    return {log["eval"]["model"]: log for log in found}


def test_a_log_per_cell_with_each_items_options_answer_and_scores(store, texts, tmp_path):
    done = write_inspect_logs(load(store.root), tmp_path / "a" / "b")
    assert (done.logs, done.left_out, done.why_no_texts) == (3, 1, "")
    found = logs(tmp_path / "a" / "b")
    assert sorted(found) == [f"nano (extra tokens {n}, accum 1, seed {s})" for n, s in ((0, 1), (4, 1), (4, 2))]
    log = found["nano (extra tokens 4, accum 1, seed 1)"]
    key = log["eval"]["eval_id"]
    answers = rows(store.cell_file(key, "answers.csv"))
    assert (log["version"], log["status"], len(log["samples"])) == (2, "success", 60)
    assert log["eval"]["task_args"]["extra_num_query_tokens"] == 4
    assert log["eval"]["dataset"]["sample_ids"] == [f"item-{n:03d}" for n in range(60)]
    assert [one["name"] for one in log["eval"]["scorers"]] == ["full", "blind"]
    for sample, full, blind in zip(log["samples"], answers[:60], answers[60:], strict=True):
        assert sample["id"] == full["item"] == blind["item"]
        assert sample["target"] == "A"
        assert tuple(sample["choices"]) == OPTIONS
        for answer, score in ((full, sample["scores"]["full"]), (blind, sample["scores"]["blind"])):
            assert score["value"] == ("C" if answer["correct"] == "1" else "I")
            assert score["answer"] == "AB"[int(answer["predicted"])]
            assert score["metadata"]["scores"] == [-1.0, -2.0]
        assert sample["messages"][0]["content"].startswith(f"{sample['input']}\n(A) red\n(B) a (B) <b>\n(C) left")
        assert sample["output"]["completion"] == f"({sample['scores']['full']['answer']}) {OPTIONS[int(full['predicted'])]}"
        assert sample["metadata"] == {"task": full["task"], "cluster": full["cluster"], "clip": full["cluster"]}
    figures = store.read_record(key).figures
    metrics = {one["name"]: one["metrics"] for one in log["results"]["scores"]}
    assert metrics["full"]["accuracy"]["value"] == figures["accuracy"]["value"]
    assert metrics["blind"]["accuracy"]["value"] == 0.25
    assert log["results"]["metadata"]["visual_gain"]["value"] == 0.1
    failed = next(log for log in found.values() if log["status"] == "error")
    assert failed["error"]["message"] == "out of memory"
    assert not failed["samples"]
    assert "results" not in failed


def test_written_again_a_log_replaces_its_own(store, texts, tmp_path):
    (tmp_path / "mine.json").write_text("{}")
    write_inspect_logs(load(store.root), tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_inspect_logs(load(store.root), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    key = next(name for name in first if name != "mine.json").rpartition("_")[2].removesuffix(".json")
    os.utime(store.cell_file(key, "record.json"), (0, 0))  # the cell has run again, say
    write_inspect_logs(load(store.root), tmp_path)
    assert len(list(tmp_path.iterdir())) == len(first)
    assert Counter(path.name.rpartition("_")[2] for path in tmp_path.iterdir())[f"{key}.json"] == 1
    assert (tmp_path / "mine.json").read_text() == "{}"


def test_without_the_benchmark_samples_have_their_names_and_that_is_said(store, tmp_path):
    said = here("export", store.root, "--inspect", tmp_path / "l")
    assert f"3 logs in {tmp_path / 'l'}: inspect view --log-dir {tmp_path / 'l'}" in said
    assert "Without questions and options: world is not what it was when the sweep ran." in said
    assert "Left out: 1 cells that have neither finished nor failed." in said
    log = next(log for log in logs(tmp_path / "l").values() if log["samples"])
    assert log["samples"][3]["input"].startswith("item-003 (")
    assert log["samples"][3]["choices"] is None
    assert log["samples"][3]["scores"]["full"]["answer"] in ("A", "B")


def test_answers_that_name_no_option_and_scores_that_are_no_numbers(texts, tmp_path):
    store = finished_folder(tmp_path / "r", {0: 0.5}, seeds=(1,))
    [key] = store.keys()
    path = store.cell_file(key, "answers.csv")
    lines = path.read_text().splitlines()
    lines[1] = "full,item-000,a,clip-0,0,-1,-1,0,0,4,,"
    lines[2] = "full,item-001,b,clip-0,0,30,30,0,0,40,nan;-inf;1,1;1;1"
    path.write_text("\n".join(lines) + "\n")
    record = store.read_record(key)
    store.write_record(replace(record, files=store.checksums(key)))
    write_inspect_logs(load(store.root), tmp_path / "l")
    [log] = logs(tmp_path / "l").values()
    none, odd = (log["samples"][n]["scores"]["full"] for n in (0, 1))
    assert (none["value"], none["answer"], none["explanation"]) == ("N", None, None)
    assert log["samples"][0]["output"]["completion"] == ""
    assert (odd["answer"], odd["metadata"]["scores"]) == ("5", [None, None, 1.0])  # behind Z


def test_a_users_python_file_is_not_run(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("raise SystemExit('run')")
    store = finished_folder(tmp_path / "r", {0: 0.5}, seeds=(1,), config=config(bench=f"custom:{file}"))
    done = write_inspect_logs(load(store.root), tmp_path / "l")
    assert "which a report does not run" in done.why_no_texts


def test_what_cannot_be_exported_is_one_message(store, texts, tmp_path):
    assert "error: say what to write: --inspect DIR" in here("export", store.root, code=2)
    assert "holds no sweep.json" in here("export", tmp_path, "--inspect", tmp_path / "l", code=2)
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--inspect: .*file cannot be written \((File exists|Not a directory)\)"):
        write_inspect_logs(load(store.root), tmp_path / "file")
    empty = finished_folder(tmp_path / "e", {0: 0.5}, seeds=(1,), unfinished=[(0, 1)])
    with pytest.raises(StoreError, match="no cell has finished or failed yet"):
        write_inspect_logs(load(empty.root), tmp_path / "l")
    assert not (tmp_path / "l").exists()


def test_inspect_ai_reads_them_and_computes_the_same_accuracy(store, texts, tmp_path):
    pytest.importorskip("inspect_ai", reason="the package inspect_ai is not installed")
    from inspect_ai.log import list_eval_logs, read_eval_log
    from inspect_ai.scorer import SampleScore, accuracy, stderr

    write_inspect_logs(load(store.root), tmp_path)
    listed = list_eval_logs(str(tmp_path))
    assert len(listed) == 3
    states = Counter()
    for info in listed:
        log = read_eval_log(info)
        states[log.status] += 1
        if log.status != "success":
            assert log.error.message == "out of memory"
            continue
        figures = store.read_record(log.eval.metadata["cell"]).figures
        stated = {one.name: one.metrics["accuracy"].value for one in log.results.scores}
        for control, mean in {FULL: figures["accuracy"], **figures["controls"]}.items():
            scores = [
                SampleScore(score=one.scores[control], sample_id=one.id, sample_metadata=one.metadata) for one in log.samples
            ]
            assert accuracy()(scores) == pytest.approx(mean["value"], abs=1e-12) == stated[control]
            values = [float(one.score.value == "C") for one in scores]
            own = clustered_mean(values, [one.metadata["cluster"] for one in log.samples])
            assert stderr(cluster="cluster")(scores) == pytest.approx(own.stderr, rel=1e-9)
    assert states == {"success": 2, "error": 1}
