"""`qtablate tasks`: what a benchmark asks, by name and by MVBench's short codes."""

from dataclasses import replace

import numpy as np
import pytest
from launch import here
from PIL import Image

from qtablate.data.tasks import find_task, task_code
from qtablate.errors import ConfigError
from qtablate.prompts.mvbench import MEDIA_ROOTS
from qtablate.video.contact_sheet import contact_sheet, shown_frames
from qtablate.world.benchmark import WorldBench

CODES = "AS AP AA FA UA OE OI OS MD AL ST AC MC MA SC FP CO EN ER CI"
"""Column heads of the table of MVBench's paper (arXiv 2311.17005), in its order."""


def test_codes_are_those_of_mvbench():
    assert [task_code(task) for task in MEDIA_ROOTS] == CODES.split()


def test_every_task_is_listed_with_its_size_and_an_example():
    text = here("tasks", "--items-per-task", "2")
    for task in MEDIA_ROOTS:
        assert task in text
    item = WorldBench(2).items[0]
    assert f"{item.question} " in text
    assert f"{item.options[item.answer]} ✓" in text
    [row] = [line.split() for line in text.splitlines() if line.startswith(" OE ")]
    assert row[:4] == ["OE", "object_existence", "2", "50.0"]


@pytest.mark.parametrize("name", ["MD", "md", "moving_direction", "moving direction"])
def test_a_task_is_found_by_its_name_and_its_code(name):
    assert find_task(name, list(MEDIA_ROOTS)) == "moving_direction"


def test_an_unknown_or_ambiguous_name_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"unknown task 'XY'; expected one of AS \(action_sequence\), AP"):
        find_task("XY", list(MEDIA_ROOTS))
    with pytest.raises(ConfigError, match=r"several tasks are 'AB'; expected one of AB \(a_b\), AB \(all_b\)"):
        find_task("AB", ["a_b", "all_b", "c"])
    assert "did" not in here("tasks", "show", "XY", code=2)


def test_items_of_a_task_are_shown_and_drawn(tmp_path):
    path = tmp_path / "md.png"
    text = here("tasks", "show", "MD", "--count", "2", "--save", path)
    items = [item for item in WorldBench().items if item.task == "moving_direction"][:2]
    for item in items:
        assert f"{item.id}: {item.question}" in text
    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    first = WorldBench().frames(items[0].clip)[0]
    assert (picture[6 : 6 + 128 : 4, 6 : 6 + 128 : 4] == first).all()
    assert "--save: " in here("tasks", "show", "MD", "--save", tmp_path / "no" / "x.png", code=2)
    assert "--save: " in here("tasks", "show", "MD", "--save", tmp_path / "x.jpg", code=2)


def test_options_may_stand_before_show_and_texts_with_line_breaks_are_drawn(tmp_path):
    assert "no such file" in here("tasks", "--bench", f"custom:{tmp_path / 'no.py'}", "show", "MD", code=2)
    world = WorldBench(1)
    item = replace(world.items[0], question="two\nlines " + 100 * "very ", options=("a\nb", "c" * 300))
    assert contact_sheet(world, [item]).width < 3000


def test_large_frames_are_shrunk_and_many_are_chosen_evenly():
    frames = np.zeros((15, 300, 200, 3), np.uint8)
    frames[:, 0, 0, 0] = np.arange(15)
    images = shown_frames(frames, 96)
    assert [image.size for image in images] == [(64, 96)] * 8
    assert [image.getpixel((0, 0))[0] for image in shown_frames(frames[:, :50, :50], 96)] == [0, 2, 4, 6, 8, 10, 12, 14]
