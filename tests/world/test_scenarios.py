"""Scenarios and levels: how often they occur and what their scenes contain."""

from collections import Counter

import numpy as np
import pytest
from world_scenes import SCENARIO_MOTIONS, objects, of_scenario, scenes

from qtablate.world.benchmark import scene_of
from qtablate.world.levels import LEVELS
from qtablate.world.motions import MOTIONS
from qtablate.world.scenarios import SCENARIOS
from qtablate.world.scene import BACKGROUNDS, CAMERA, COLORS, FORMS, FRAMES, IMAGE_SIZE, LETTERS, SHAPES, Scene, render

FREE = ("medley", "traffic", "fidgets", "letters", "patrol", "figures", "camera")


def count_swaps(scene: Scene) -> int:
    """Count the frames in which two cups are between two positions."""
    row = scene.objects[0].y[0]
    return sum(any(obj.y[frame] != row for obj in scene.objects[:3]) for frame in range(FRAMES))


def test_every_named_motion_form_and_color_occurs():
    assert {scene.scenario for scene in scenes()} == set(SCENARIOS)
    assert {obj.motion for obj in objects()} == set(MOTIONS).union(*SCENARIO_MOTIONS.values())
    assert {obj.form_at(frame) for obj in objects() for frame in range(FRAMES)} == set(FORMS)
    assert {obj.color for obj in objects()} == set(COLORS)
    assert {scene.background for scene in scenes()} == {scene.final_background for scene in scenes()} == set(BACKGROUNDS)
    assert {scene.camera for scene in scenes()} == {*CAMERA, ""}


def test_scenarios_occur_as_often_as_their_shares():
    assert sum(share for _, share in SCENARIOS.values()) == pytest.approx(1)
    counts = Counter(scene.scenario for scene in scenes())
    for scenario, (_, share) in SCENARIOS.items():
        error = (share * (1 - share) / len(scenes())) ** 0.5
        assert abs(counts[scenario] / len(scenes()) - share) < 4 * error, scenario


def test_motions_belong_to_their_scenarios():
    for scene in scenes():
        for obj in scene.objects:
            assert obj.motion in SCENARIO_MOTIONS.get(scene.scenario, set(MOTIONS))
        assert (scene.coin_index is not None) == (scene.scenario == "cups")
        assert (scene.odd_index is not None) == (scene.scenario == "crowd")
        assert (scene.camera in CAMERA) == bool(scene.floor_dots) == (scene.scenario == "camera")


def test_one_object_of_a_crowd_is_odd():
    """All others have the same motion and direction."""
    against = set()
    for scene in of_scenario("crowd"):
        motions = [(obj.motion, obj.direction) for obj in scene.objects]
        odd = motions.pop(scene.odd_index)
        assert len(motions) >= 2
        assert len({*motions}) == 1
        assert odd != motions[0]
        against.add(odd[0] == motions[0][0])
    assert against == {True, False}  # one that moves against the others occurs too


def test_episodes_have_three_events_in_sequence():
    for scene in of_scenario("episode"):
        events = sorted(obj.event_frame for obj in scene.objects if obj.event_frame)
        assert [(at + 1) // 2 for at in events] == [1, 2, 3]
        assert [obj.motion for obj in scene.objects if not obj.event_frame] in ([], ["still"])


def test_letters_appear_in_different_frames():
    for scene in of_scenario("letters"):
        times = [obj.event_frame for obj in scene.objects]
        assert len({*times}) == len(times)
        assert {(obj.motion, obj.form in LETTERS) for obj in scene.objects} == {("appear", True)}


def test_static_scenes_have_no_motion():
    forms = set()
    for number in range(100):
        scene = scene_of(f"world/normal/train/image/{number}")
        assert render(scene, 1).shape == (1, IMAGE_SIZE, IMAGE_SIZE, 3)
        assert {obj.motion for obj in scene.objects} == {"still"}
        assert all(all(obj.visible) for obj in scene.objects)
        assert scene.background == scene.final_background
        assert not scene.camera
        forms |= {obj.form for obj in scene.objects}
    assert forms == {*SHAPES, *LETTERS}


@pytest.mark.parametrize("level", LEVELS)
def test_number_of_objects_is_that_of_the_level_and_seldom_smaller(level):
    free = [scene for scene in scenes()[list(LEVELS).index(level) :: len(LEVELS)] if scene.scenario in FREE]
    least, most = {"easy": (2, 3), "normal": (2, 4), "hard": (3, 5)}[level]
    counts = [len(scene.objects) for scene in free]
    assert min(counts) >= 1
    assert max(counts) == most
    assert sum(count < least for count in counts) < (0.15 if level == "hard" else 0.05) * len(counts)


def test_harder_levels_have_more_objects_and_swaps():
    crowds, objects, swaps = {}, {}, {}
    for number, level in enumerate(LEVELS):
        mine = scenes()[number :: len(LEVELS)]
        objects[level] = np.mean([len(scene.objects) for scene in mine if scene.scenario in FREE])
        swaps[level] = {count_swaps(scene) for scene in of_scenario("cups", mine)}
        crowds[level] = {len(scene.objects) for scene in of_scenario("crowd", mine)}
    assert objects["easy"] < objects["normal"] < objects["hard"]
    assert swaps == {"easy": {1}, "normal": {1, 2}, "hard": {2}}
    assert crowds == {"easy": {3}, "normal": {3, 4}, "hard": {3, 4, 5}}
