"""The exported benchmark reads back as what it was."""

import numpy as np
import pytest

from qtablate.data.export import export_world
from qtablate.data.mvbench import MVBench
from qtablate.errors import DataError
from qtablate.world.benchmark import WorldBench


def test_an_exported_folder_asks_the_same_and_shows_the_same(tmp_path):
    world = WorldBench(3)
    assert export_world(tmp_path / "b", 3) == (len(world.clips()), len(world.items))
    folder = MVBench(str(tmp_path / "b"), 8, 32)
    assert not folder.problems
    for task in world.tasks:
        ours = [item for item in world.items if item.task == task]
        theirs = [item for item in folder.items if item.task == task]
        assert [(i.question, i.options, i.answer) for i in ours] == [(i.question, i.options, i.answer) for i in theirs]
        for mine, read in zip(ours, theirs, strict=True):
            before, after = world.frames(mine.clip).astype(int), folder.frames(read.clip).astype(int)
            assert after.shape == before.shape
            distance = np.abs(after[:, None] - before[None]).mean(axis=(2, 3, 4))  # (read frame, world frame)
            assert distance.diagonal().max() < 6
            assert np.allclose(distance.diagonal(), distance.min(axis=1))  # no other frame of the clip is nearer


def test_what_holds_something_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "a.txt"):
        with pytest.raises(DataError, match="is not an empty folder"):
            export_world(place, 3)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.txt"]
    assert (tmp_path / "a.txt").read_text() == "mine"


def test_an_empty_folder_and_one_in_a_new_place_are_taken(tmp_path):
    for place in (tmp_path, tmp_path / "video/new/one"):
        assert export_world(place, 1)[1] == len(list((place / "json").iterdir()))


def test_an_interrupted_export_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("qtablate.data.export.write_mp4", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export_world(tmp_path / "b", 1)
    assert list(tmp_path.iterdir()) == []
