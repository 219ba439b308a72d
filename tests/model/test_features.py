"""The cache of frozen features."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from qtablate.errors import BadMedia, StoreError
from qtablate.model import cache
from qtablate.model import features as module
from qtablate.model.features import FeatureFiles


class FakeClips:
    fingerprint = "data"

    def clips(self):
        return [f"clip{n}" for n in range(7)]

    def frames(self, clip):
        number = int(clip[4:])
        if number == 3:
            raise BadMedia("missing video", "clip3.mp4")
        shape = (1 if number == 5 else 4, 16, 16, 3)
        return np.full(shape, 30 * number, dtype=np.uint8)


def of(folder, model: str, names, altered=(), precision="fp32") -> FeatureFiles:
    return FeatureFiles(folder, model, tuple(names), tuple(f"key of {name}" for name in names), altered, precision)


@pytest.fixture
def files(tmp_path, monkeypatch) -> FeatureFiles:
    monkeypatch.setattr(module, "CHUNK", 4)
    return of(tmp_path, "model", FakeClips().clips())


def test_features_equal_the_models_and_bad_clips_are_named(tiny, files):
    tiny.eval()
    assert files.missing() == [0, 1]
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    assert files.missing() == []
    found = files.read()
    assert set(found) == {f"clip{n}" for n in (0, 1, 2, 4, 5, 6)}
    assert found["clip5"].shape == (4, 24)
    from qtablate.model.preprocess import normalize_frames

    with torch.inference_mode():
        alone = tiny.vision_features(normalize_frames([FakeClips().frames("clip2")]))[0]
    assert torch.allclose(found["clip2"], alone, atol=1e-5)
    [problem] = files.problems()
    assert (problem.subject, problem.kind) == ("clip3", "missing video")


def test_growing_reuses_whole_chunks_and_other_weights_reuse_none(files, monkeypatch):
    more = of(files.folder, "model", [*files.clip_names, "clip7", "clip8"])
    assert more.chunks[0] == files.chunks[0]
    assert more.chunks[1] != files.chunks[1]
    other = of(files.folder, "other", files.clip_names)
    assert {stem for stem, _ in other.chunks}.isdisjoint(stem for stem, _ in files.chunks)


def test_a_chunk_without_its_note_is_made_again_and_a_broken_one_is_named(tiny, files):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    stem = files.chunks[0][0]
    (files.folder / f"{stem}.json").unlink()
    assert files.missing() == [0]
    files.compute(0, tiny, FakeClips())
    (files.folder / f"{stem}.safetensors").write_bytes(b"broken")
    with pytest.raises(StoreError, match=f"{stem}.safetensors cannot be read"):
        files.read()


def test_a_torn_note_and_a_deleted_array_are_made_again(tiny, files):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    first, second = (stem for stem, _ in files.chunks)
    (files.folder / f"{first}.json").write_text("[[")
    (files.folder / f"{second}.safetensors").unlink()
    assert files.missing() == [0, 1]
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    assert len(files.read()) == 6
    assert len(files.problems()) == 1


def test_a_corrupted_array_is_made_again_and_a_copied_one_serves(tiny, files):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    before = {name: value.clone() for name, value in files.read().items()}
    path = files.folder / f"{files.chunks[0][0]}.safetensors"
    data = bytearray(path.read_bytes())
    os.utime(path, (1, 1))  # as a copy has another time
    assert files.missing() == []
    data[-3] ^= 4  # one bit of one number: safetensors itself would not notice
    path.write_bytes(bytes(data))
    assert files.missing() == [0]
    files.compute(0, tiny, FakeClips())
    assert files.missing() == []
    assert all(torch.equal(value, before[name]) for name, value in files.read().items())
    path.write_bytes(bytes(data[:-8]))
    assert files.missing() == [0]


def test_a_bit_that_flipped_without_a_trace_is_found_by_its_sum(tiny, files):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    path = files.folder / f"{files.chunks[1][0]}.safetensors"
    before, data = path.stat(), bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert files.missing() == []
    assert files.missing(verify_checksums=True) == [1]
    with pytest.raises(StoreError, match=rf"{path.name} are missing or damaged .* run the same command again"):
        files.verify()
    files.compute(1, tiny, FakeClips())
    files.verify()


def test_a_complete_cache_serves_where_nothing_may_be_written(tiny, files, monkeypatch):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    for path in files.folder.glob("*.safetensors"):
        os.utime(path, (1, 1))  # a copy

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(30, "Read-only file system")

    for name in ("utime", "unlink", "replace"):
        monkeypatch.setattr(os, name, refused)
    monkeypatch.setattr(Path, "unlink", refused)
    assert files.missing() == files.missing(verify_checksums=True) == []
    files.mark_used()
    files.verify()
    assert len(files.read()) == 6
    assert not cache.remove(files.folder, files.chunks[0][0])
    assert cache.prune(files.folder, 0, now=1e12) == []
    assert files.missing() == []


def test_a_full_cache_names_its_folder_and_the_variable(tiny, files, monkeypatch):
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(StoreError, match=rf"into {files.folder} \(.*No space left.*\): make room .* QTABLATE_CACHE"):
        files.compute(0, tiny, FakeClips())
    assert list(files.folder.iterdir()) == []


def test_what_names_a_chunk():
    base = of("f", "model", ["a", "b"])
    same = FeatureFiles("f", "model", ("x", "y"), base.clip_keys)  # other names, the same pixels
    assert same.chunks[0][0] == base.chunks[0][0]
    others = [
        of("f", "model", ["a", "c"]),
        of("f", "m", ["a", "b"]),
        of("f", "model", ["a", "b"], ("middle",)),
        of("f", "model", ["a", "b"], ("reversed",)),
        of("f", "model", ["a", "b"], (), "bf16"),
        replace(base, software="torch 1"),
        FeatureFiles("f", "model", ("x", "y"), base.clip_keys, ("middle",)),  # frames are shuffled by the name
    ]
    assert len({one.chunks[0][0] for one in [base, *others]}) == 1 + len(others)


def test_two_processes_that_make_one_chunk_leave_a_whole_one(tiny, files):
    """Each replaces the other's array; the note of one stands beside the array of the other, and their contents agree."""
    files.compute(0, tiny, FakeClips())
    note = (files.folder / f"{files.chunks[0][0]}.json").read_text()
    files.compute(0, tiny, FakeClips())
    (files.folder / f"{files.chunks[0][0]}.json").write_text(note)
    assert 0 not in files.missing()


def test_problems_carry_the_names_of_whoever_asks(tiny, files):
    for number in files.missing():
        files.compute(number, tiny, FakeClips())
    other = FeatureFiles(files.folder, "model", tuple(f"b:{name}" for name in files.clip_names), files.clip_keys)
    assert [one.subject for one in other.problems()] == ["b:clip3"]
    assert set(other.read()) == {f"b:clip{n}" for n in (0, 1, 2, 4, 5, 6)}
