"""Files of a finished sweep that are damaged, lost or another's: named, in no table, run again; nothing good is replaced.

The whole suite runs the sweep again after each damage: python -m pytest -m slow tests/test_corruption.py
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from launch import qtablate, swept, tables

from qtablate import load
from qtablate.errors import QtablateError, StoreError
from qtablate.records import Record
from qtablate.report import folder as results_folder
from qtablate.report import frames
from qtablate.report.build import report
from qtablate.store import DAMAGED, Store

RESULTS = Path(__file__).parents[1] / "results"
WORDS = ["--samples", "16", "--items-per-task", "2", "--tokens", "0,4", "--accum", "1", "--seeds", "1", "--controls", "blind"]


def sweep(cache: Path, out: Path) -> subprocess.CompletedProcess:
    return qtablate(cache, "sweep", *WORDS, "--out", str(out))


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def finished(cache, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "r"
    swept(cache, *WORDS, "--out", out)
    return out


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    """A copy to damage."""
    shutil.copytree(finished, tmp_path / "r")
    return tmp_path / "r"


def keys(folder: Path) -> list[str]:
    return [cell["key"] for cell in json.loads((folder / "sweep.json").read_text())["cells"]]


def edited(name: str, change: Callable[[str], str]) -> Callable[[Path], None]:
    """Damage to one file of a cell's folder, by its text."""

    def damage(cell: Path) -> None:
        path = cell / name
        text = change(path.read_text())
        assert text != path.read_text()
        path.write_text(text)

    return damage


def record(**changes: object) -> Callable[[Path], None]:
    return edited("record.json", lambda text: json.dumps(json.loads(text) | changes))


def a_folder(name: str) -> Callable[[Path], None]:
    def damage(cell: Path) -> None:
        (cell / name).unlink()
        (cell / name).mkdir()

    return damage


def flipped(text: str) -> str:
    """One answer is another one, and the line still reads well."""
    lines = text.splitlines(keepends=True)
    fields = lines[1].split(",")
    at = lines[0].split(",").index("correct")
    fields[at] = str(1 - int(fields[at]))
    return lines[0] + ",".join(fields) + "".join(lines[2:])


def another_cells(cell: Path) -> None:
    [other] = [one for one in cell.parent.iterdir() if one != cell]
    shutil.copy(other / "record.json", cell / "record.json")


def better(text: str) -> str:
    """A figure that could be true."""
    content = json.loads(text)
    content["figures"]["accuracy"]["value"] = 0.99
    return json.dumps(content)


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "the last answers are cut": ("answers.csv", edited("answers.csv", lambda text: text[: len(text) * 2 // 3])),
    "whole lines of answers are gone": ("answers.csv", edited("answers.csv", lambda t: "".join(t.splitlines(True)[:-7]))),
    "an answer is flipped": ("answers.csv", edited("answers.csv", flipped)),
    "an answer stands twice": ("answers.csv", edited("answers.csv", lambda text: text + text.splitlines(True)[-1])),
    "answers are empty": ("answers.csv", edited("answers.csv", lambda text: "")),
    "answers are a header alone": ("answers.csv", edited("answers.csv", lambda text: text.splitlines(True)[0])),
    "answers are zeros": ("answers.csv", edited("answers.csv", lambda text: "\0" * len(text))),
    "answers are gone": ("answers.csv", lambda cell: (cell / "answers.csv").unlink()),
    "answers are a folder": ("answers.csv", a_folder("answers.csv")),
    "training is cut in half": ("train.csv", edited("train.csv", lambda text: text[: len(text) // 2])),
    "training is empty": ("train.csv", edited("train.csv", lambda text: "")),
    "training is gone": ("train.csv", lambda cell: (cell / "train.csv").unlink()),
    "a loss is another one": ("train.csv", edited("train.csv", lambda text: text[:-9] + "98"[text[-9] == "9"] + text[-8:])),
    "figures are null": ("record.json", record(figures=None)),
    "a figure is better": ("record.json", edited("record.json", better)),
    "a figure is missing": ("record.json", record(figures={"steps": 3})),
    "the record is another cell's": ("record.json", another_cells),
    "the record is torn": ("record.json", edited("record.json", lambda text: text[: len(text) // 2])),
    "the record is empty": ("record.json", edited("record.json", lambda text: "")),
    "the record is no object": ("record.json", edited("record.json", lambda text: "[1]")),
    "the record is nested deep": ("record.json", edited("record.json", lambda text: "[" * 100_000)),
    "the record is a folder": ("record.json", a_folder("record.json")),
    "the record has no checksum": ("record.json", edited("record.json", lambda t: t.replace('"sha256"', '"sha"'))),
    "the record calls a failure ok": ("record.json", record(files={})),
    "the record is of an unknown status": ("record.json", record(status="splendid")),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_cell_is_named_left_out_and_to_be_run_again(folder, finished, what):
    broken, whole = keys(folder)
    file, damage = DAMAGES[what]
    damage(folder / "cells" / broken)
    store = Store(folder)
    assert not store.finished(broken)
    assert store.finished(whole)
    built = report(store, figures=False)
    [table] = [one for one in built.tables if one.title == "Failed or damaged cells"]
    [row] = table.rows
    assert (row[0], row[-2]) == (broken, DAMAGED)
    assert file in row[-1]
    now, before = tables(folder), tables(finished)
    assert now["cells.csv"][1] == before["cells.csv"][1]
    lost = now["cells.csv"][0]
    assert (lost["status"], lost["accuracy"], lost["train_loss"], lost["n_items"]) == (DAMAGED, "", "", "")
    assert now["tasks.csv"] == [task for task in before["tasks.csv"] if task["key"] == whole]
    assert [row["seeds_done"] for row in now["summary.csv"]] == ["0", "1"]
    found = load(folder)
    assert set(found.answers["key"]) == set(found.train["key"]) == {whole}


@pytest.mark.slow
@pytest.mark.parametrize("what", DAMAGES)
def test_the_next_sweep_runs_a_damaged_cell_again(folder, finished, cache, what):
    broken, whole = keys(folder)
    DAMAGES[what][1](folder / "cells" / broken)
    kept = (folder / "cells" / whole / "record.json").stat().st_mtime_ns
    done = sweep(cache, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tables(folder) == tables(finished)
    assert (folder / "cells" / whole / "record.json").stat().st_mtime_ns == kept


def test_without_its_cells_a_folder_is_read_from_its_tables_and_nothing_is_replaced(folder, finished):
    shown = {table.title: table.rows for table in report(Store(folder), figures=False).tables}
    shutil.rmtree(folder / "cells")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    built = report(Store(folder), figures=False)
    assert built.files == ()
    assert "2 of its 2 finished cells are no longer under cells/ as they were. Nothing was written" in built.remark
    assert {table.title: table.rows for table in built.tables} == shown
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    frames.write_tables(Store(folder))  # as the next sweep begins
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    found, whole = load(folder), load(finished)
    for name in ("cells", "tasks", "summary", "training", "contrasts", "cost"):
        assert len(getattr(found, name)) == len(getattr(whole, name)) > 0
    assert found.summary["accuracy"].tolist() == pytest.approx(whole.summary["accuracy"].tolist())
    with pytest.raises(StoreError, match=r"has no answers\.csv of its cells \(2 of its 2 finished cells are no longer"):
        _ = found.answers
    with pytest.raises(QtablateError, match="to which no other --baseline"):
        report(Store(folder), {"tokens": "4"}, figures=False)
    with pytest.raises(QtablateError, match="to which no other --baseline"):
        load(folder, margin=0.01)


@pytest.mark.parametrize("committed", sorted(RESULTS.rglob("sweep.json")), ids=lambda path: path.parent.name)
def test_committed_results_are_shown_as_they_are(committed, tmp_path):
    """They are kept without their cells."""
    shutil.copytree(committed.parent, tmp_path / "r")
    before = {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()}
    built = report(Store(tmp_path / "r"), figures=False)
    assert built.remark.endswith("Nothing was written.")
    assert {"Conditions", "Contrasts"} <= {table.title for table in built.tables}
    assert all("nan" not in text for table in built.tables for row in table.rows for text in row)
    assert {path: path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file()} == before


def test_one_cell_that_is_gone_keeps_the_tables_too(folder):
    before = (folder / "cells.csv").read_bytes()
    shutil.rmtree(folder / "cells" / keys(folder)[0])
    assert "1 of its 2 finished cells" in report(Store(folder), figures=False).remark
    assert (folder / "cells.csv").read_bytes() == before


@pytest.mark.parametrize("status", ["running", "failed"])
def test_cells_that_are_run_again_or_fail_now_replace_no_table(folder, status):
    """Their folders were deleted, and the sweep that makes them anew was stopped, or failed."""
    store, before = Store(folder), (folder / "summary.csv").read_bytes()
    for key in keys(folder):
        shutil.rmtree(folder / "cells" / key)
        store.write_record(Record(key, status, {}))
    assert frames.write_tables(store) == []
    assert report(store, figures=False).files == ()
    assert (folder / "summary.csv").read_bytes() == before


def test_a_copy_without_answers_replaces_no_table(folder):
    before = (folder / "summary.csv").read_bytes()
    for path in folder.glob("cells/*/answers.csv"):
        path.unlink()
    assert report(Store(folder), figures=False).files == ()
    assert (folder / "summary.csv").read_bytes() == before


def test_what_the_system_refuses_to_read_is_no_damage(folder, monkeypatch):
    def broken(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    store, key = Store(folder), keys(folder)[0]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", broken)
        with pytest.raises(StoreError, match=r"csv cannot be read now \(Input/output error\); the cell may be fine"):
            store.discard_damaged(key)
    assert store.finished(key)


def test_another_versions_folder_is_shown_from_its_tables(folder):
    content = json.loads((folder / "sweep.json").read_text()) | {"schema": 4}
    (folder / "sweep.json").write_text(json.dumps(content))
    built = report(Store(folder), figures=False)
    assert "another version of qtablate wrote it: record schema 4, this one reads" in built.remark
    assert [table.title for table in built.tables][:2] == ["Conditions", "Contrasts"]


def test_a_sweep_file_of_another_version_and_layout_says_so(folder):
    (folder / "sweep.json").write_text(json.dumps({"schema": 4, "recipe": {}, "cells": []}))
    with pytest.raises(StoreError, match=r"another version of qtablate wrote it \(record schema 4, this one reads \d+\)"):
        report(Store(folder), figures=False)


def test_a_sweep_of_other_cells_does_not_replace_tables_whose_cells_are_gone(folder):
    shutil.rmtree(folder / "cells")
    with pytest.raises(StoreError, match=r"holds tables of 2 finished cells that are no longer under cells/ .*another --out"):
        results_folder.validate_overwrite(Store(folder), {"another"})
    results_folder.validate_overwrite(Store(folder), set(keys(folder)))  # they are run again, and their tables kept until then


@pytest.mark.parametrize("name", ["cells.csv", "summary.csv", "tasks.csv", "contrasts.csv", "report.md"])
@pytest.mark.parametrize("content", [None, "", "key,status\n"])
def test_tables_that_are_lost_or_damaged_are_made_again(folder, finished, name, content):
    path = folder / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    report(Store(folder), figures=False)
    assert path.read_text() == (finished / name).read_text()


@pytest.mark.parametrize(
    "change",
    [
        {"cells": "none"},
        {"cells": [{"seed": 1}]},
        {"config": None},
        {"settings": []},
        {"config": {"grid": {"tokens": ["many"]}}},
        {"problems": {}},
        {"cells": [{"key": "k", "seed": 1, "condition": {"extra_num_query_tokens": 0}}]},
        {"schema": "five"},
        {"items": "many"},
    ],
)
def test_a_sweep_file_with_other_content_is_one_message(folder, change):
    content = json.loads((folder / "sweep.json").read_text()) | change
    (folder / "sweep.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=r"sweep\.json.*run the sweep again, finished cells are kept"):
        report(Store(folder), figures=False)


def test_cells_of_other_versions_are_told_apart(folder):
    store = Store(folder)
    first = store.read_record(keys(folder)[0])
    store.write_record(
        Record(
            **{
                **{name: getattr(first, name) for name in first.__slots__},
                "versions": first.versions | {"torch": "2.12.0"},
            }
        )
    )
    built = report(store, figures=False)
    [table] = [one for one in built.tables if one.title == "Software"]
    assert [row[0] for row in table.rows] == ["1", "1"]
    assert sum("torch 2.12.0" in row[1] for row in table.rows) == 1
    said = (folder / "report.md").read_text()
    assert said.count("Made by qtablate") == 2
    assert len({row["software"] for row in tables(folder)["cells.csv"]}) == 2


def test_a_read_only_folder_is_shown_and_said_not_to_be_written(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    built = report(Store(folder), figures=False)
    assert built.remark == f"Nothing was written: no permission to write in {folder}."
    assert built.tables
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_full_disk_is_one_line_that_names_the_folder(folder, monkeypatch):
    before = tables(folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qtablate.files.os.replace", full)
    with pytest.raises(StoreError, match=r"cells\.csv cannot be written \(No space left on device\): make room .*--out"):
        report(Store(folder), figures=False)
    monkeypatch.undo()
    assert tables(folder) == before
    assert not list(folder.rglob(".*.*[0-9]"))
