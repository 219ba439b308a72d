"""Dense labels say of each patch what its pixels show."""

import numpy as np
import pytest

from qtablate.bench.world.labels import CLASSES, IGNORE, dense_labels
from qtablate.bench.world.scene import BACKGROUNDS, COLOURS, DIRECTIONS, FRAMES, KINDS, SHAPES, Scene, Thing, render, simulate
from qtablate.seeds import Dice

NAMES = list(CLASSES)
SCENES = [simulate(Dice("test", "labels", number)) for number in range(150)]


def label(labels: np.ndarray, name: str) -> np.ndarray:
    return labels[:, NAMES.index(name)]


def patches(clip: np.ndarray, patch: int = 8) -> np.ndarray:
    """(frames * patches, pixels, 3), row by row, as a video encoder cuts them."""
    out = []
    for frame in clip:
        for top in range(0, frame.shape[0], patch):
            out += [frame[top : top + patch, left : left + patch].reshape(-1, 3) for left in range(0, frame.shape[1], patch)]
    return np.stack(out)


def holds(pixels: np.ndarray, rgb: tuple[int, int, int]) -> bool:
    return bool((pixels == rgb).all(axis=-1).any())


@pytest.mark.parametrize("frames", [FRAMES, 1])
def test_labels_are_in_their_ranges(frames):
    for number in range(60):
        labels = dense_labels(simulate(Dice("test", "range", number), frames), frames)
        assert labels.shape == (frames * 16, len(CLASSES))
        for name, classes in CLASSES.items():
            values = label(labels, name)
            assert ((values == IGNORE) | ((values >= 0) & (values < classes))).all(), name


def test_a_patchs_colour_is_in_its_pixels():
    colours, seen = list(COLOURS.values()), 0
    for scene in SCENES:
        for value, pixels in zip(label(dense_labels(scene), "colour"), patches(render(scene)), strict=True):
            if value != IGNORE:
                assert holds(pixels, colours[value])
                seen += 1
    assert seen > 1000


def test_no_thing_means_background_alone():
    floors = list(BACKGROUNDS.values())
    for scene in SCENES:
        labels = dense_labels(scene)
        empty = label(labels, "kind") == len(KINDS)
        assert empty.any()
        for floor, pixels in zip(label(labels, "background")[empty], patches(render(scene))[empty], strict=True):
            assert (pixels == floors[floor]).all()


def test_every_visible_thing_is_labelled_somewhere():
    """Patches of two things belong to the larger part; so a thing may lose one, but seldom all."""
    lost = seen = 0
    for scene in SCENES:
        labels = dense_labels(scene).reshape(FRAMES, 16, -1)
        for thing in scene.things:
            for frame in range(FRAMES):
                rows = label(labels[frame], "colour") == list(COLOURS).index(thing.colour_at(frame))
                if not thing.visible[frame]:
                    assert not rows.any()
                    continue
                seen += 1
                lost += not rows.any()
                for name, value in (("shape", SHAPES.index(thing.shape)), ("kind", KINDS.index(thing.kind))):
                    assert (label(labels[frame], name)[rows] == value).all()
    assert lost < 0.03 * seen


def test_event_labels_say_what_the_thing_does():
    known = {"left": 0, "right": 1, "up": 2, "down": 3}
    seen = set()
    for scene in SCENES:
        labels = dense_labels(scene).reshape(FRAMES, 16, -1)
        for thing, frame in ((thing, frame) for thing in scene.things for frame in range(FRAMES)):
            rows = label(labels[frame], "colour") == list(COLOURS).index(thing.colour_at(frame))
            expected = {
                "direction": known.get(thing.direction, IGNORE),
                "then_direction": known.get(thing.then, IGNORE),
                "then_colour": list(COLOURS).index(thing.then) if thing.then in COLOURS else IGNORE,
                "at": thing.at if thing.kind in ("recolour", "appear", "vanish") else IGNORE,
                "times": thing.times if thing.kind == "blink" else IGNORE,
            }
            for name, value in expected.items():
                assert (label(labels[frame], name)[rows] == value).all(), name
                seen |= {name} if value != IGNORE and rows.any() else set()
    assert len(seen) == 5


def test_a_scene_by_hand():
    """One red disc that turns, in the second patch of the second row; the floor goes from black to navy in frame 1."""
    thing = Thing("red", "disc", "turn", "left", "up", x=(12, 12), y=(12, 12), radius=(3, 3), visible=(True, False))
    labels = dense_labels(Scene((thing,), "black", "navy", 1), frames=2)
    expected = {
        "colour": 0, "shape": 1, "kind": KINDS.index("turn"), "direction": list(DIRECTIONS).index("left"),
        "then_direction": list(DIRECTIONS).index("up"), "then_colour": IGNORE, "at": IGNORE, "times": IGNORE,
        "background": 0, "background_first": 0, "background_last": 2, "frame": 0, "place": 5,
    }  # fmt: skip
    assert dict(zip(NAMES, labels[5].tolist(), strict=True)) == expected
    nothing = dict.fromkeys(("colour", "shape", "direction", "then_direction"), IGNORE) | {"kind": len(KINDS)}
    hidden = expected | nothing | {"background": 2, "frame": 1}
    assert dict(zip(NAMES, labels[16 + 5].tolist(), strict=True)) == hidden
    assert (label(labels[:16], "kind") != len(KINDS)).sum() == 1


@pytest.mark.parametrize("large_first", [True, False])
def test_a_patch_of_two_things_belongs_to_the_larger_part(large_first):
    """The third patch of the first row holds 7 x 5 pixels of the blue square and 7 of the red one's edge."""
    red = Thing("red", "square", "still", x=(13,), y=(4,), radius=(3,), visible=(True,))
    blue = Thing("blue", "square", "still", x=(22,), y=(4,), radius=(3,), visible=(True,))
    things = (blue, red) if large_first else (red, blue)
    colours = label(dense_labels(Scene(things, "black", "black", 0), frames=1), "colour")[:4].tolist()
    assert colours == [IGNORE, 0, 2, IGNORE]


def test_place_and_frame_count_up():
    labels = dense_labels(SCENES[0])
    assert label(labels, "place").tolist() == list(range(16)) * FRAMES
    assert label(labels, "frame").tolist() == [frame for frame in range(FRAMES) for _ in range(16)]
