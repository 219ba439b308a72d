"""Motions of single objects."""

import itertools

import numpy as np
import pytest
from world_scenes import SCENARIO_MOTIONS, in_place, of_one_size, of_scenario, path, scenes, steps, toward

from qtablate.world.motions import MOTIONS
from qtablate.world.scene import (
    FRAMES,
    GESTURES,
    OPPOSITE,
    POSES,
    SceneObject,
)


def solo_objects() -> list[SceneObject]:
    """Objects of scenarios in which objects move independently and the camera rests."""
    return [obj for scene in scenes() if scene.scenario not in ("camera", *SCENARIO_MOTIONS) for obj in scene.objects]


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_match_their_names(motion):
    mine = [obj for obj in solo_objects() if obj.motion == motion]
    assert len(mine) > 20
    for t in mine:
        first = toward(t.direction, 1) if t.direction else ()
        then = toward(t.next_direction, 1) if t.next_direction else ()
        legs = [tuple(np.sign(step)) for step in steps(t)]
        assert in_place(t) == (motion not in ("move", "turn", "loop", "shuttle", "sway", "bounce"))
        assert of_one_size(t) == (motion not in ("grow", "shrink", "pulse"))
        assert all(t.visible) == (motion not in ("blink", "appear", "vanish"))
        assert bool(t.direction) == (motion in ("move", "turn", "loop", "shuttle"))
        match motion:
            case "move":
                assert legs == [first] * 7
            case "turn":
                assert legs == [first] * 4 + [then] * 3
                assert t.next_direction not in (t.direction, OPPOSITE[t.direction])
            case "loop":  # the fourth side leads to where it began
                assert legs[:2] == [first] * 2
                assert legs[4:] == [toward(OPPOSITE[t.direction], 1)] * 2 + [(0, 0)]
                assert legs[2:4] == [toward(OPPOSITE[t.next_direction], 1)] * 2
                assert t.next_direction not in (t.direction, OPPOSITE[t.direction])
                assert path(t)[0] == tuple(np.add(path(t)[-1], toward(t.next_direction, 8)))
                assert len({*path(t)[:7]}) == 7
            case "shuttle":  # and so does the way back of this one
                assert t.next_direction == OPPOSITE[t.direction]
                assert legs == [first] * 2 + [then] * 2 + [first] * 2 + [(0, 0)]
                assert path(t)[0] == path(t)[4] == tuple(np.add(path(t)[-1], toward(t.next_direction, 8)))
            case "sway" | "bounce":
                still, swings = (t.y, t.x) if motion == "sway" else (t.x, t.y)
                assert len(set(still)) == 1
                assert sorted({place - swings[0] for place in swings}) == [-2, 0, 2]
            case "grow" | "shrink":
                assert list(t.radius) == sorted(t.radius, reverse=motion == "shrink")
                assert {t.radius[0], t.radius[-1]} in ({2, 4}, {3, 5})
            case "pulse":
                middle = t.radius[0]
                assert middle == t.radius[4]
                assert {*t.radius} == {middle - 1, middle, middle + 1}
            case "blink":
                assert sum(a and not b for a, b in itertools.pairwise(t.visible)) == t.blink_count
                assert t.visible[0]
                assert t.visible[-1]
            case "appear" | "vanish":
                assert list(t.visible) == [(frame >= t.event_frame) == (motion == "appear") for frame in range(FRAMES)]
            case "recolor":
                shown = [t.color_at(frame) for frame in range(FRAMES)]
                assert shown == [t.color] * t.event_frame + [t.next_color] * (FRAMES - t.event_frame)
                assert t.color != t.next_color
        assert (1 <= t.event_frame <= 6) == (motion in ("recolor", "appear", "vanish"))


def test_figures_move_their_arms_only():
    """Arms go up or down once, pose by pose; or they alternate between two poses in every frame."""
    figures = [obj for scene in of_scenario("figures") for obj in scene.objects]
    shown: dict[str, set[tuple[str, ...]]] = {motion: set() for motion in GESTURES}
    for t in figures:
        assert in_place(t)
        assert of_one_size(t)
        assert all(t.visible)
        assert [t.form_at(frame) for frame in range(FRAMES)] == list(t.poses)
        heights = [POSES.index(pose) for pose in t.poses]
        shown[t.motion].add(tuple(dict.fromkeys(t.poses)))
        if t.motion in ("raise", "lower"):
            assert heights == sorted(heights, reverse=t.motion == "lower")
        else:
            assert all(a != b for a, b in itertools.pairwise(heights))
    assert shown == {
        "raise": {("down", "out", "up"), ("down", "out"), ("out", "up")},
        "lower": {("up", "out", "down"), ("up", "out"), ("out", "down")},
        "wave": {("up", "out"), ("out", "up")},
        "flap": {("down", "out"), ("out", "down")},
    }
