"""What is taken out of the cache, and what never is."""

import json
import os
import subprocess
import sys

import pytest

from qtablate.errors import QtablateError
from qtablate.model.cache import LIMIT_GB, chunks, default_cache, limit_bytes, prune, retryable_chunks
from qtablate.video.isolated import DECODE_TIMEOUT

DAY = 24 * 3600.0
NOW = 1e9


@pytest.fixture
def folder(tmp_path):
    """Four chunks of 100 bytes, used 5, 4, 3 days and an hour ago."""
    for n, age in enumerate((5 * DAY, 4 * DAY, 3 * DAY, 3600.0)):
        for suffix, content in ((".safetensors", b"x" * 100), (".json", b"{}")):
            path = tmp_path / f"c{n}{suffix}"
            path.write_bytes(content)
            os.utime(path, (NOW - age, NOW - age))
    return tmp_path


def left(folder) -> list[str]:
    return [one.stem for one in chunks(folder)]


def test_the_longest_unused_go_first_until_there_is_room(folder):
    assert left(folder) == ["c0", "c1", "c2", "c3"]
    assert prune(folder, 400, now=NOW) == []
    assert [one.stem for one in prune(folder, 250, now=NOW)] == ["c0", "c1"]
    assert sorted(path.name for path in folder.iterdir()) == ["c2.json", "c2.safetensors", "c3.json", "c3.safetensors"]


def test_what_took_too_long_is_found_among_torn_notes(folder):
    notes = {"c0": "[[", "c1": json.dumps({"problems": [[3, "broken video", "a.mp4"]]}), "c3": json.dumps([])}
    notes["c2"] = json.dumps({"problems": [[3, "broken video", "a.mp4"], [4, DECODE_TIMEOUT, "b.mp4"]]})
    for stem, note in notes.items():
        (folder / f"{stem}.json").write_text(note)
    assert [one.stem for one in retryable_chunks(folder)] == ["c2"]


def test_what_a_sweep_needs_or_was_used_today_stays(folder):
    prune(folder, 0, keep=["c1"], now=NOW)
    assert left(folder) == ["c1", "c3"]


@pytest.mark.parametrize("name", [".c9.safetensors.{}", ".c9.json.{}", ".tmp{}"])  # the last is safetensors' own
def test_leftovers_of_killed_processes_go_when_they_are_old(folder, name):
    for age in (2 * DAY, 60.0):
        path = folder / name.format(int(age))
        path.write_bytes(b"x")
        os.utime(path, (NOW - age, NOW - age))
    prune(folder, 1000, now=NOW)
    assert [path.name for path in folder.glob(".*")] == [name.format(60)]


def test_the_limit_is_the_users(monkeypatch):
    monkeypatch.delenv("QTABLATE_CACHE_GB", raising=False)
    assert limit_bytes() == LIMIT_GB * 1e9
    monkeypatch.setenv("QTABLATE_CACHE_GB", "0.5")
    assert limit_bytes() == 5e8
    monkeypatch.setenv("QTABLATE_CACHE_GB", "")
    assert limit_bytes() == LIMIT_GB * 1e9
    for value in ("much", "-1", "nan", "inf"):
        monkeypatch.setenv("QTABLATE_CACHE_GB", value)
        with pytest.raises(QtablateError, match=f"QTABLATE_CACHE_GB: expected a number of GB, at least 0, got '{value}'"):
            limit_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other folders for caches")
def test_the_folder_is_the_users_choice_or_that_of_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("QTABLATE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    assert default_cache() == tmp_path / ".cache" / "qtablate"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_cache() == tmp_path / ".cache" / "qtablate"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache() == tmp_path / "xdg" / "qtablate"
    monkeypatch.setenv("QTABLATE_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"


def test_the_command_shows_and_clears(folder, tmp_path):
    (tmp_path / "cache").mkdir()
    inner = tmp_path / "cache" / "features"
    inner.mkdir()
    for path in folder.glob("c?.*"):
        path.rename(inner / path.name)
    env = os.environ | {"QTABLATE_CACHE": str(tmp_path / "cache"), "COLUMNS": "300"}

    def said(*words: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "qtablate", "cache", *words], env=env, capture_output=True, text=True, check=True
        ).stdout

    assert "4 files, 0.00 of at most 50 GB, the least recently used on" in said()
    assert "Removed 4 files" in said("--clear")
    assert "0 files" in said()
