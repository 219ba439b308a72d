"""Contact sheets: one picture per task with clips, questions and the gold option."""

import itertools

import numpy as np
import pytest
from PIL import Image

from qtablate.errors import DataError
from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.video.contact_sheet import contact_sheet
from qtablate.world.benchmark import WorldBench
from qtablate.world.preview import preview


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sheets") / "new" / "folder"
    return directory, preview(directory, 3, "easy")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).astype(int)


def green(picture: np.ndarray) -> np.ndarray:
    """Mask of green pixels; black, gray and white are not green."""
    return (picture[..., 1] > picture[..., 0] + 60) & (picture[..., 1] > picture[..., 2] + 40)


def test_one_picture_per_task_in_the_order_of_mvbench(written):
    directory, paths = written
    assert [path.name for path in paths] == [f"{task}.png" for task in MEDIA_ROOTS]
    assert len(paths) == 20
    assert sorted(directory.iterdir()) == sorted(paths)  # nothing is left beside them
    assert len({path.read_bytes() for path in paths}) == 20
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert image.mode == "RGB"


def test_one_row_per_item_of_the_level(written):
    world = WorldBench(3, "easy")
    for path in written[1]:
        items = [item for item in world.items if item.task == path.stem]
        with Image.open(path) as image:
            assert (pixels(image) == pixels(contact_sheet(world, items))).all()
            assert image.height > len(items) * 4 * 32
            assert image.width > 8 * 4 * 32


def test_all_frames_are_enlarged():
    world = WorldBench(2)
    for item in world.items[::8]:
        picture = pixels(contact_sheet(world, [item]))
        left = 0
        for frame in world.frames(item.clip).astype(int):
            large = np.kron(frame, np.ones((4, 4, 1), dtype=int))
            places = [x for x in range(left, picture.shape[1] - 127) if (picture[6:134, x : x + 128] == large).all()]
            assert places
            left = places[0] + 128


def test_only_the_gold_option_is_green():
    """Only the gold option is green: the green area moves to the right with its position."""
    world = WorldBench(1)
    for item in world.items:
        spans = []
        for answer in range(len(item.options)):
            changed = type(item)(item.id, item.task, item.clip, item.question, item.options, answer)
            below = pixels(contact_sheet(world, [changed]))[6 + 128 :]
            rows, columns = np.nonzero(green(below))
            assert len(rows) > 10
            assert rows.min() > below.shape[0] // 3  # the question above is not
            spans.append((columns.min(), columns.max()))
        for (_, end), (start, _) in itertools.pairwise(spans):
            assert end < start
        (start, end) = spans[item.answer]
        mine = green(pixels(contact_sheet(world, [item]))[6 + 128 :])
        assert mine[:, start : end + 1].sum() == mine.sum()


def test_existing_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "sheets"
    path.write_text("mine")
    with pytest.raises(DataError, match="sheets is not a folder"):
        preview(path, 1, "normal")
    assert path.read_text() == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_existing_pictures_are_replaced(tmp_path):
    (tmp_path / "moving_count.png").write_bytes(b"old")
    (tmp_path / "other.txt").write_text("mine")
    paths = preview(tmp_path, 1, "normal")
    assert (tmp_path / "other.txt").read_text() == "mine"
    with Image.open(tmp_path / "moving_count.png") as image:
        assert image.width > 0
    assert {*tmp_path.iterdir()} == {*paths, tmp_path / "other.txt"}
