"""A results folder: what was written is read back, what is torn counts as not there."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from settings import config, sweep_file

from qtablate.axes import Condition
from qtablate.errors import StoreError
from qtablate.files import temporary_path
from qtablate.records import PlannedCell, Record
from qtablate.store import Store, newest
from qtablate.sweep.joined import joined

RECORD = Record("abc", "ok", {"seed": 1}, {"steps": 2, "train_loss": None, "accuracy": 0.1 + 0.2})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results" / "one")


def test_a_record_comes_back_as_it_was(store):
    assert store.read_record("abc") is None
    store.write_record(RECORD)
    assert store.read_record("abc") == RECORD
    assert store.cell_file("abc", "record.json").read_text().endswith("}\n")


@pytest.mark.parametrize(("status", "done"), [("ok", True), ("failed", False), ("running", False)])
def test_only_ok_means_finished(store, status, done):
    store.write_record(Record("abc", status, {}, {"steps": 1}))
    assert not store.finished("abc")  # it names no files that it rests on
    for name in ("train.csv", "answers.csv"):
        store.cell_file("abc", name).touch()
    store.write_record(Record("abc", status, {}, {"steps": 1}, files=store.checksums("abc")))
    assert store.finished("abc") is done


@pytest.mark.parametrize("text", ["", "null", "[1]", '{"key": "abc"}', '{"key": 1, "other": 2}', "\x00\xff"])
def test_a_torn_or_foreign_record_counts_as_not_started(store, text):
    store.write_record(RECORD)
    store.cell_file("abc", "record.json").write_text(text)
    assert store.read_record("abc") is None
    assert not store.finished("abc")


def test_a_record_torn_at_any_byte_counts_as_not_started(store):
    store.write_record(RECORD)
    path = store.cell_file("abc", "record.json")
    whole = path.read_bytes()
    for length in range(len(whole) - 2):  # without the last brace
        path.write_bytes(whole[:length])
        assert store.read_record("abc") is None, length


def test_write_rows_leaves_what_is_missing_empty(store):
    rows = [
        {"a": None, "b": float("nan"), "c": np.float64("nan"), "d": 0, "more": 1},
        {"a": 0.0, "b": 1 / 3, "c": "x, y", "d": False, "more": 1},
        {"a": 1e-20, "b": 123456789.123456789, "c": "", "d": 2**60, "more": 1},
    ]
    path = store.table_file("cells.csv")
    store.write_rows(path, rows, ["d", "a", "b", "c"])
    assert path.read_bytes().decode() == (
        'd,a,b,c\n0,,,\nFalse,0,0.3333333333,"x, y"\n1152921504606846976,1e-20,123456789.1,\n'
    )


def test_write_rows_wants_every_column(store):
    path = store.table_file("cells.csv")
    store.write_rows(path, [{"a": 1}], ["a"])
    with pytest.raises(KeyError):
        store.write_rows(path, [{"a": 2}], ["a", "b"])
    assert path.read_text() == "a\n1\n"


def test_newest_picks_the_sweep_that_was_written_last(tmp_path):
    for name, age in (("b", 300), ("c", 100), ("a", 200)):
        store = Store(tmp_path / name)
        store.write_sweep(sweep_file([], name))
        os.utime(store.sweep_file, (1_700_000_000 - age,) * 2)
    (tmp_path / "d").mkdir()  # a folder without sweep.json is no sweep
    assert newest(tmp_path).read_sweep().fingerprints.benchmark == "c"


def test_newest_without_any_sweep(tmp_path):
    for results in (tmp_path, tmp_path / "none"):
        with pytest.raises(StoreError, match=r"no sweep under .*: run `qtablate sweep`"):
            newest(results)


def test_read_sweep_says_what_is_wrong(store):
    with pytest.raises(StoreError, match=r"one holds no sweep\.json: name a folder that `qtablate sweep --out` wrote"):
        store.read_sweep()
    written = sweep_file(
        [PlannedCell("k", 1, dataclasses.asdict(Condition(32, 1, 8, "mixed", "normal")))], config=config(tokens=(0, 32))
    )
    store.write_sweep(written)
    assert store.read_sweep() == written
    store.sweep_file.write_text('{"grid": ')
    with pytest.raises(StoreError, match=r"sweep\.json cannot be read .*: run the sweep again"):
        store.read_sweep()


@pytest.mark.parametrize("text", ["null", "5", "[1, 2]", "[]", "{}"])
def test_read_sweep_refuses_json_that_is_no_object(store, text):
    store.write_sweep(sweep_file([]))
    store.sweep_file.write_text(text)
    with pytest.raises(StoreError):
        store.read_sweep()


def test_read_sweep_of_a_file_instead_of_a_folder(tmp_path):
    (tmp_path / "report.md").write_text("")
    with pytest.raises(StoreError):
        Store(tmp_path / "report.md").read_sweep()


def test_leftovers_of_killed_writes_go_when_a_sweep_begins_and_those_of_living_ones_stay(store):
    store.write_record(RECORD)
    cell = store.cell_file("abc", "")
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    ).stdout.strip()
    here = temporary_path(store.root).name.rpartition("-")[2]
    gone = [
        cell / f".record.json.{dead}-{here}",
        cell / f".checkpoint.pt.{dead}-{here}",
        store.root / f".cells.csv.{dead}-{here}",
    ]
    of_other_machine, older = (cell / f".train.csv.{dead}-0000000{n}" for n in (1, 2))
    kept = [temporary_path(cell / "train.csv"), cell / ".hidden", store.root / ".notes.txt", of_other_machine]
    gone += [older]
    for path in (*gone, *kept):
        path.write_text("half")
    os.utime(older, (time.time() - 25 * 3600,) * 2)
    store.read_record("abc")
    assert all(path.exists() for path in gone)  # reading changes nothing
    store.open()
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize("what", ["folder", "claims", "record"])
def test_a_folder_that_cannot_be_written_is_one_message_that_names_it(store, monkeypatch, what):
    store.root.mkdir(parents=True)
    if what == "folder":
        store = Store(store.root / "file" / "r")
        store.root.parent.write_text("")
        with (
            pytest.raises(StoreError, match=r"file/r: no folder can be made there \(Not a directory\); name another"),
            joined(store, config()),
        ):
            pass
    elif what == "claims":
        (store.root / "claims").write_text("")
        with (
            pytest.raises(StoreError, match=r"claims cannot be written \(File exists\): .* in .*one, or name another"),
            joined(store, config()),
        ):
            pass
    else:
        monkeypatch.setattr("qtablate.files.os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreError, match=r"record\.json cannot be written \(No space left on device\): make room"):
            store.write_record(RECORD)
        assert not any(path.is_file() for path in store.root.rglob("*"))


def finished_long_ago(store, monkeypatch):
    """A finished cell whose files were written long ago, by the clock of the process; and a list of what is hashed."""
    for name, content in (("train.csv", "loss\n1\n"), ("answers.csv", "correct\n1\n")):
        store.write_file(store.cell_file("abc", name), content)
    store.write_record(dataclasses.replace(RECORD, files=store.checksums("abc")))
    now, hashed, inner = time.time(), [], Store._sum
    monkeypatch.setattr("qtablate.files.time.time", lambda: now + 60)
    monkeypatch.setattr(Store, "_sum", lambda self, key, name: hashed.append(name) or inner(self, key, name))
    return hashed


def test_files_of_a_finished_cell_are_hashed_once(store, monkeypatch):
    hashed = finished_long_ago(store, monkeypatch)
    for one in (store, Store(store.root), store):
        assert one.finished("abc")
        assert one.state("abc").record == store.read_record("abc")
    assert sorted(hashed) == ["answers.csv", "train.csv"]


@pytest.mark.parametrize("name", ["record.json", "train.csv", "answers.csv"])
def test_a_change_that_keeps_size_and_time_is_seen(store, monkeypatch, name):
    finished_long_ago(store, monkeypatch)
    assert store.finished("abc")
    path = store.cell_file("abc", name)
    before = path.stat()
    time.sleep(0.02)  # a tick of the file system's clock
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert not store.finished("abc")
    assert store.state("abc").status == "damaged"
    path.unlink()
    assert not store.finished("abc")


def test_files_that_were_just_written_are_hashed_each_time(store, monkeypatch):
    """Another change may leave the same times."""
    hashed = finished_long_ago(store, monkeypatch)
    monkeypatch.setattr("qtablate.files.time.time", time.monotonic)  # long before
    assert store.finished("abc")
    assert store.finished("abc")
    assert len(hashed) == 4
