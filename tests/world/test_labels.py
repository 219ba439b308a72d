"""Dense labels describe what the pixels of each patch show."""

from dataclasses import replace

import numpy as np
import pytest

from qtablate.nano.labels import ALL_MOTIONS, CLASSES, IGNORE, OBJECT_LABELS, dense_labels
from qtablate.seeds import Rng
from qtablate.world.levels import LEVELS
from qtablate.world.scenarios import SCENARIOS, random_scene, static_scene
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLORS,
    DIRECTIONS,
    FORMS,
    FRAMES,
    GESTURES,
    Scene,
    SceneObject,
    render,
)

NAMES = list(CLASSES)
SCENES = [random_scene(Rng("test", "labels", level, number), LEVELS[level]) for number in range(100) for level in LEVELS]
PIXELS = {id(scene): render(scene) for scene in SCENES}
LABELS = {id(scene): dense_labels(scene) for scene in SCENES}


def label(labels: np.ndarray, name: str) -> np.ndarray:
    return labels[..., NAMES.index(name)]


def by_frame(scene: Scene) -> np.ndarray:
    return LABELS[id(scene)].reshape(FRAMES, 16, -1)


def patches(clip: np.ndarray, patch: int = 8) -> np.ndarray:
    """Cut a clip into patches (frames * patches, pixels, 3), row by row, as the vision encoder does."""
    out = []
    for frame in clip:
        for top in range(0, frame.shape[0], patch):
            out += [frame[top : top + patch, left : left + patch].reshape(-1, 3) for left in range(0, frame.shape[1], patch)]
    return np.stack(out)


def holds(pixels: np.ndarray, rgb: tuple[int, int, int]) -> np.ndarray:
    """Mask of patches that contain a pixel of this color."""
    return (pixels == rgb).all(axis=-1).any(axis=-1)


def color_number(obj: SceneObject, frame: int) -> int:
    return list(COLORS).index(obj.color_at(frame))


def by_hand(*objects: SceneObject, **more: object) -> Scene:
    return Scene("by hand", objects, "black", "black", **more)


def square(color: str, x: int, y: int = 4, **more: object) -> SceneObject:
    return SceneObject(color, "square", more.pop("motion", "still"), x=(x,), y=(y,), radius=(3,), visible=(True,), **more)


@pytest.mark.parametrize("frames", [FRAMES, 1])
def test_labels_are_in_their_ranges(frames):
    for number in range(60):
        generate = random_scene if frames == FRAMES else static_scene
        labels = dense_labels(generate(Rng("test", "range", number)), frames)
        assert labels.shape == (frames * 16, len(CLASSES))
        for name, classes in CLASSES.items():
            values = label(labels, name)
            assert ((values == IGNORE) | ((values >= 0) & (values < classes))).all(), name


def test_every_class_of_every_label_occurs():
    """Except those that cannot occur: events in the first and the last frame, and zero blinks."""
    seen = {name: set() for name in CLASSES}
    for scene in SCENES:
        labels = LABELS[id(scene)]
        for name in CLASSES:
            seen[name] |= set(np.unique(label(labels, name)).tolist()) - {IGNORE}
    left_out = {"at": {0, 7}, "times": {0}}
    for name, classes in CLASSES.items():
        assert seen[name] == set(range(classes)) - left_out.get(name, set()), name


def test_color_of_a_patch_is_in_its_pixels():
    colors, seen, missing = list(COLORS.values()), 0, []
    for scene in SCENES:
        values, pixels = label(LABELS[id(scene)], "colour"), patches(PIXELS[id(scene)])
        for value in set(values.tolist()) - {IGNORE}:
            mine = values == value
            seen += int(mine.sum())
            missing += [(scene.scenario, scene.camera)] * int((~holds(pixels[mine], colors[value])).sum())
    assert seen > 2000
    assert missing == []


def test_patch_without_an_object_shows_the_floor_only():
    """The floor has dots where the camera moves."""
    floors = list(BACKGROUNDS.values())
    for scene in SCENES:
        labels, pixels = LABELS[id(scene)], patches(PIXELS[id(scene)])
        empty = label(labels, "thing") == 0
        assert empty.any()
        for number, floor in enumerate(floors):
            mine = pixels[empty & (label(labels, "background") == number)]
            dot = np.add(floor, 60) if scene.camera else floor
            assert ((mine == floor).all(axis=-1) | (mine == dot).all(axis=-1)).all()


def test_only_patches_with_an_object_have_object_labels():
    for scene in SCENES:
        labels = LABELS[id(scene)]
        other = label(labels, "thing") != 1
        assert (labels[other][:, : len(OBJECT_LABELS)] == IGNORE).all()
        for name in ("colour", "first_colour", "form", "deed"):
            assert (label(labels, name)[~other] != IGNORE).all()
        for name in set(CLASSES) - set(OBJECT_LABELS) - {"thing"}:
            assert (label(labels, name) != IGNORE).all()


def test_visible_objects_are_labeled_in_some_patch():
    """A patch of two objects is labeled with the larger part, so that an object may lose patches, but seldom all."""
    lost = seen = 0
    for scene in SCENES:
        labels = by_frame(scene)
        for obj in scene.objects:
            for frame in range(FRAMES):
                rows = label(labels[frame], "colour") == color_number(obj, frame)
                if not obj.visible[frame]:
                    assert not rows.any()
                elif holds(patches(PIXELS[id(scene)][frame : frame + 1]), COLORS[obj.color_at(frame)]).any():
                    seen += 1
                    lost += not rows.any()
    assert lost < 0.03 * seen


def test_object_labels_agree_with_the_log():
    known, seen = {"left": 0, "right": 1, "up": 2, "down": 3}, set()
    for scene in SCENES:
        labels = by_frame(scene)
        for number, obj in enumerate(scene.objects):
            for frame in range(FRAMES) if scene.scenario != "cups" else ():  # cups share one color: see below
                rows = label(labels[frame], "colour") == color_number(obj, frame)
                expected = {
                    "first_colour": list(COLORS).index(obj.color),
                    "form": FORMS.index(obj.form_at(frame)),
                    "deed": ALL_MOTIONS.index(obj.motion),
                    "direction": known.get(obj.direction, IGNORE),
                    "then_direction": known.get(obj.next_direction, IGNORE),
                    "then_colour": list(COLORS).index(obj.next_color) if obj.next_color in COLORS else IGNORE,
                    "at": obj.event_frame if obj.motion in ("recolor", "appear", "vanish") else IGNORE,
                    "times": obj.blink_count if obj.motion == "blink" else IGNORE,
                    "partner": list(COLORS).index(obj.partner) if obj.motion in ("roll", "hit", "blocked") else IGNORE,
                    "odd": int(number == scene.odd_index) if scene.scenario == "crowd" else IGNORE,
                    "origin": IGNORE,
                    "coin": IGNORE,
                }
                for name, value in expected.items():
                    assert (label(labels[frame], name)[rows] == value).all(), name
                    seen |= {name} if value != IGNORE and rows.any() else set()
    assert seen == set(OBJECT_LABELS) - {"colour", "origin", "coin"}


def test_motions_have_distinct_class_numbers():
    assert len(set(ALL_MOTIONS)) == len(ALL_MOTIONS) == CLASSES["deed"]
    assert {obj.motion for scene in SCENES for obj in scene.objects} == set(ALL_MOTIONS)
    assert set(GESTURES) < set(ALL_MOTIONS)


def test_cups_have_their_coin_and_origin_labels_in_every_frame():
    """Patches centered on a cup have both labels; patches of other objects have neither."""
    cups = [scene for scene in SCENES if scene.scenario == "cups"]
    assert len(cups) > 10
    for scene in cups:
        labels, places = by_frame(scene), sorted(obj.x[0] for obj in scene.objects[:3])
        for number, obj in enumerate(scene.objects[:3]):
            for frame in range(FRAMES):
                patch = obj.y[frame] // 8 * 4 + obj.x[frame] // 8
                if obj.x[frame] % 8 == obj.y[frame] % 8 == 4:
                    assert label(labels[frame], "coin")[patch] == int(number == scene.coin_index)
                    assert label(labels[frame], "origin")[patch] == places.index(obj.x[0])
        for name in ("coin", "origin"):
            of_cups = label(labels, "form") == FORMS.index("cup")
            assert ((label(labels, name) != IGNORE) == of_cups).all()
        assert (label(labels, "coin") == 1).any(axis=1).all()  # in every frame, though the coin is seen in two


def test_every_patch_has_the_camera_label():
    seen = set()
    for scene in SCENES:
        (value,) = set(label(LABELS[id(scene)], "camera").tolist())
        assert (*CAMERA, "")[value] == scene.camera
        seen.add(value)
    assert seen == set(range(5))


def test_background_labels_of_the_frame_and_of_both_ends():
    code = (1 << 16, 1 << 8, 1)
    floors = {int(np.dot(rgb, code)): number for number, rgb in enumerate(BACKGROUNDS.values())}
    for scene in SCENES:
        labels, clip = by_frame(scene), PIXELS[id(scene)]
        shown = []
        for frame in clip:
            colors, counts = np.unique(frame.astype(int) @ code, return_counts=True)
            shown.append(floors[int(colors[counts.argmax()])])
        assert (label(labels, "background") == np.array(shown)[:, None]).all()
        assert (label(labels, "background_first") == shown[0]).all()
        assert (label(labels, "background_last") == shown[-1]).all()


def test_labels_of_a_handmade_scene():
    """One red disc that turns, in the second patch of the second row; the floor goes from black to navy in frame 1."""
    obj = SceneObject("red", "disc", "turn", "left", "up", x=(12, 12), y=(12, 12), radius=(3, 3), visible=(True, False))
    labels = dense_labels(Scene("traffic", (obj,), "black", "navy", 1), frames=2)
    expected = {
        "colour": 0,
        "first_colour": 0,
        "form": 1,
        "deed": ALL_MOTIONS.index("turn"),
        "direction": list(DIRECTIONS).index("left"),
        "then_direction": list(DIRECTIONS).index("up"),
        "then_colour": IGNORE,
        "at": IGNORE,
        "times": IGNORE,
        "partner": IGNORE,
        "odd": IGNORE,
        "origin": IGNORE,
        "coin": IGNORE,
        "thing": 1,
        "background": 0,
        "background_first": 0,
        "background_last": 2,
        "camera": 4,
        "frame": 0,
        "place": 5,
    }
    assert dict(zip(NAMES, labels[5].tolist(), strict=True)) == expected
    hidden = expected | dict.fromkeys(OBJECT_LABELS, IGNORE) | {"thing": 0, "background": 2, "frame": 1}
    assert dict(zip(NAMES, labels[16 + 5].tolist(), strict=True)) == hidden
    assert label(labels[:16], "thing").sum() == 1
    assert label(labels[16:], "thing").sum() == 0


def test_labels_of_a_handmade_color_change():
    """A green square becomes white in frame 1: `colour` depends on the frame, `first_colour` does not."""
    obj = SceneObject(
        "green", "square", "recolor", next_color="white", event_frame=1, x=(4, 4), y=(4, 4), radius=(3, 3), visible=(True, True)
    )
    labels = dense_labels(by_hand(obj), frames=2)[::16]
    values = {name: label(labels, name).tolist() for name in ("colour", "first_colour", "then_colour", "then_direction", "at")}
    assert values == {
        "colour": [1, 7],
        "first_colour": [1, 1],
        "then_colour": [7, 7],
        "then_direction": [IGNORE] * 2,
        "at": [1, 1],
    }


def test_partner_odd_coin_and_camera_labels_of_a_handmade_scene():
    red = square("red", 4, motion="roll", direction="right", partner="blue")
    blue, green = square("blue", 12, motion="hit", direction="right", partner="red"), replace(square("green", 20), form="cup")
    first = dense_labels(by_hand(red, blue, green, odd_index=1, coin_index=2, camera="back"), frames=1)[:4]
    values = {name: label(first, name).tolist() for name in ("partner", "odd", "coin", "camera")}
    assert values == {
        "partner": [2, 0, IGNORE, IGNORE],
        "odd": [0, 1, 0, IGNORE],
        "coin": [IGNORE, IGNORE, 1, IGNORE],
        "camera": [3] * 4,
    }


def test_form_label_of_a_figure_is_its_pose():
    poses = ("down",) * 2 + ("out",) * 3 + ("up",) * 3
    obj = SceneObject("red", "figure", "raise", x=(4,) * 8, y=(4,) * 8, radius=(3,) * 8, visible=(True,) * 8, poses=poses)
    forms = [FORMS[value] for value in label(dense_labels(by_hand(obj))[::16], "form")]
    assert forms == ["down", "down", "out", "out", "out", "up", "up", "up"]


@pytest.mark.parametrize(
    ("x", "objects"),
    [
        (12, [0, 1, 0, 0]),
        (14, [0, 1, IGNORE, 0]),  # 2 of 7 columns in the third patch
        (15, [0, 1, 1, 0]),  # 4 and 3
        (16, [0, 1, 1, 0]),  # 3, of 7, is more than two fifths
        (17, [0, IGNORE, 1, 0]),
        (20, [0, 0, 1, 0]),
    ],
)
def test_patch_with_a_small_part_of_an_object_has_no_object_labels(x, objects):
    labels = dense_labels(by_hand(square("red", x)), frames=1)[:4]
    assert label(labels, "thing").tolist() == objects
    assert label(labels, "colour").tolist() == [0 if value == 1 else IGNORE for value in objects]


def test_object_in_four_patches_is_labeled_where_most_of_it_is():
    """No patch has 40 % of it: one has 4 x 4 of 7 x 7 pixels, the others fewer."""
    labels = dense_labels(by_hand(square("red", 15, 15)), frames=1)
    assert label(labels, "thing").reshape(4, 4)[1:3, 1:3].tolist() == [[1, IGNORE], [IGNORE, IGNORE]]


@pytest.mark.parametrize("large_first", [True, False])
def test_patch_of_two_objects_is_labeled_with_the_larger_part(large_first):
    """The third patch of the first row holds 7 x 5 pixels of the blue square and 7 of the red one's edge."""
    red, blue = square("red", 13), square("blue", 22)
    labels = dense_labels(by_hand(*((blue, red) if large_first else (red, blue))), frames=1)[:4]
    assert label(labels, "colour").tolist() == [IGNORE, 0, 2, IGNORE]
    assert label(labels, "thing").tolist() == [0, 1, 1, IGNORE]


def test_object_out_of_view_has_no_label():
    """A disc beyond the corner: its bounding box reaches into the frame, its pixels do not."""
    obj = SceneObject("red", "disc", "still", x=(-4,), y=(-4,), radius=(5,), visible=(True,))
    scene = by_hand(obj, camera="forward")
    assert (render(scene, 1) == BACKGROUNDS["black"]).all()
    assert not (label(dense_labels(scene, 1), "thing") == 1).any()


def test_place_and_frame_labels_count_up():
    labels = LABELS[id(SCENES[0])]
    assert label(labels, "place").tolist() == list(range(16)) * FRAMES
    assert label(labels, "frame").tolist() == [frame for frame in range(FRAMES) for _ in range(16)]


def test_scenes_of_these_tests_cover_every_scenario():
    assert {scene.scenario for scene in SCENES} == set(SCENARIOS)
