"""Instruction files in VideoChat2-IT's form."""

import json

import numpy as np
import pytest
from PIL import Image

from qtablate.data.export import write_mp4
from qtablate.data.instructions import InstructionFile
from qtablate.errors import DataError

TURNS = [{"i": "Answer.", "q": "What moves?", "a": "a disc"}, {"i": "Say more.", "q": "", "a": "it moves left"}]


@pytest.fixture
def folder(tmp_path):
    frames = np.stack([np.full((16, 16, 3), 30 * n, dtype=np.uint8) for n in range(8)])
    write_mp4(tmp_path / "a.mp4", frames, scale=2)
    Image.new("RGB", (40, 20), (200, 0, 0)).save(tmp_path / "b.png")
    return tmp_path


def opened(folder, *entries: object) -> InstructionFile:
    (folder / "train.json").write_text(json.dumps(entries))
    return InstructionFile(str(folder / "train.json"), str(folder), 8, 16)


def test_videos_and_images_with_their_conversations(folder):
    data = opened(folder, {"video": "a.mp4", "QA": TURNS}, {"image": "b.png", "QA": TURNS[:1]})
    video, image = data.samples
    assert video.pairs == (("What moves?", "a disc"), ("", "it moves left"))
    assert video.instruction == "Answer."  # the first turn's, as in the original
    assert (video.medium, image.medium) == ("video", "image")
    assert data.media() == {"video": 1, "image": 1}
    assert data.frames("a.mp4").shape == (8, 16, 16, 3)
    assert data.frames("b.png").shape == (1, 16, 16, 3)
    assert np.abs(data.frames("b.png")[0, 8, 8] - np.array([200, 0, 0])).max() < 4


def test_bounds_make_another_clip(folder):
    data = opened(folder, {"video": "a.mp4", "QA": TURNS}, {"video": "a.mp4", "QA": TURNS, "start": 0, "end": 1.5})
    assert len(data.clips()) == 2
    whole, first = (data.frames(clip) for clip in data.clips())
    assert first.mean() < whole.mean() - 20  # the clip grows brighter


WRONG = {
    "malformed sample": [
        3,
        {"QA": TURNS},
        {"video": "a.mp4", "image": "b.png", "QA": TURNS},
        {"video": "a.mp4", "QA": []},
        {"video": "a.mp4", "QA": [{"q": "?"}]},
        {"video": "a.mp4"},
    ],
    "missing video": [{"video": "c.mp4", "QA": TURNS}],
    "missing image": [{"image": "c.png", "QA": TURNS}],
    "path leaves the root": [{"video": "../a.mp4", "QA": TURNS}, {"video": "/etc/passwd", "QA": TURNS}],
    "malformed time span": [{"video": "a.mp4", "QA": TURNS, "start": "0"}],
    "empty time span": [{"video": "a.mp4", "QA": TURNS, "start": 2, "end": 1}],
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_cannot_be_used_is_named_and_the_rest_stays(folder, kind):
    good = {"video": "a.mp4", "QA": TURNS}
    data = opened(folder, good, *WRONG[kind], good)
    assert [sample.id for sample in data.samples] == ["0", str(len(WRONG[kind]) + 1)]
    assert [(p.subject, p.kind) for p in data.problems] == [(f"sample {n + 1}", kind) for n in range(len(WRONG[kind]))]


def test_files_that_cannot_be_used_at_all(folder):
    with pytest.raises(DataError, match=r"holds no usable sample: missing video \(sample 0"):
        opened(folder, {"video": "c.mp4", "QA": TURNS})
    with pytest.raises(DataError, match="no file"):
        InstructionFile(str(folder / "none.json"), "", 8, 16)
    (folder / "bad.json").write_text("[")
    with pytest.raises(DataError, match="is not JSON"):
        InstructionFile(str(folder / "bad.json"), "", 8, 16)
    (folder / "object.json").write_text("{}")
    with pytest.raises(DataError, match="should hold a list"):
        InstructionFile(str(folder / "object.json"), "", 8, 16)
    (folder / "list.json").write_text("[]")
    with pytest.raises(DataError, match="no folder"):
        InstructionFile(str(folder / "list.json"), str(folder / "nowhere"), 8, 16)


def test_fingerprint_follows_clips_and_texts(folder):
    good = {"video": "a.mp4", "QA": TURNS}
    first = opened(folder, good).fingerprint
    assert opened(folder, good).fingerprint == first
    assert opened(folder, good, good).fingerprint != first
    write_mp4(folder / "a.mp4", np.zeros((8, 16, 16, 3), dtype=np.uint8), scale=2)
    assert opened(folder, good).fingerprint != first


def test_fingerprint_follows_a_frame_inside_a_folder(folder):
    (folder / "frames").mkdir()
    for n in (1, 2):
        Image.new("RGB", (16, 16)).save(folder / f"frames/{n:05d}.jpg")
    before = opened(folder, {"video": "frames", "QA": TURNS}).fingerprint
    Image.new("RGB", (40, 30), (200, 0, 0)).save(folder / "frames/00002.jpg")
    assert opened(folder, {"video": "frames", "QA": TURNS}).fingerprint != before


def test_an_instruction_of_null_is_no_text(folder):
    data = opened(folder, {"video": "a.mp4", "QA": TURNS}, {"video": "a.mp4", "QA": [{"i": None, "q": "", "a": "a disc"}]})
    assert all(question != "None" for sample in data.samples for question, _ in sample.pairs)


def test_one_file_as_a_video_and_as_an_image_is_two_clips(folder):
    grays = [Image.new("L", (16, 16), 30 * n) for n in range(8)]
    grays[0].save(folder / "c.gif", save_all=True, append_images=grays[1:], duration=100)
    data = opened(folder, {"video": "c.gif", "QA": TURNS}, {"image": "c.gif", "QA": TURNS})
    assert [len(data.frames(sample.clip)) for sample in data.samples] == [8, 1]


@pytest.mark.parametrize("medium", ["video", "image"])
@pytest.mark.parametrize("name", ["", "."])
def test_a_name_of_no_file_is_refused(folder, medium, name):
    good = {"video": "a.mp4", "QA": TURNS}
    assert [sample.id for sample in opened(folder, good, {medium: name, "QA": TURNS}).samples] == ["0"]


def test_media_are_named_from_the_files_own_folder_by_default(folder):
    opened(folder, {"image": "b.png", "QA": TURNS})
    data = InstructionFile(str(folder / "train.json"), "", 8, 16)
    assert data.frames("b.png").shape == (1, 16, 16, 3)
