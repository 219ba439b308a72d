"""A file is whole or absent, whatever happens while it is written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qtablate.files import atomic_path, temporary_path, write_text


def test_a_block_that_ends_well_replaces_the_file(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    for text in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.write_text(text)
            assert temporary.parent == path.parent, "another file system cannot be replaced from atomically"
            assert path.exists() == (text == "second")
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_no_temporary(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_before_anything_was_written_is_the_one_that_arrives(tmp_path):
    with pytest.raises(ValueError, match="mine"), atomic_path(tmp_path / "a.txt"):
        raise ValueError("mine")
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_writes_nothing_is_an_error_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass
    assert path.read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    code = (
        "import os, pathlib, sys\n"
        "from qtablate.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    assert path.read_text() == "old"


def test_another_process_writes_to_a_temporary_of_its_own(tmp_path, monkeypatch):
    with atomic_path(tmp_path / "a.txt") as mine:
        mine.write_text("mine")
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with atomic_path(tmp_path / "a.txt") as theirs:
            theirs.write_text("theirs")
        assert mine.read_text() == "mine"


def test_write_text_is_utf8_and_atomic(tmp_path):
    write_text(tmp_path / "b" / "a.txt", "±\n")
    assert (tmp_path / "b" / "a.txt").read_bytes() == b"\xc2\xb1\n"
    assert len(list((tmp_path / "b").iterdir())) == 1


def test_what_takes_its_place_is_on_the_disk_before_and_its_name_behind(tmp_path, monkeypatch):
    """A power cut leaves the old file or the new one: content, then name, then the folder that holds the name."""
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor: int) -> None:
        [name] = [path.name for path in (tmp_path, *tmp_path.iterdir()) if os.path.samestat(path.stat(), os.fstat(descriptor))]
        done.append(f"fsync {name}")
        fsync(descriptor)

    def noted_replace(old: Path, new: Path) -> None:
        done.append(f"replace {Path(new).name}")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write_text(tmp_path / "record.json", "whole")
    assert done == [f"fsync {temporary_path(tmp_path / 'record.json').name}", "replace record.json", f"fsync {tmp_path.name}"]
    done.clear()
    with atomic_path(tmp_path / "features", durable=False) as path:
        path.write_text("large")
    assert done == ["replace features"]
