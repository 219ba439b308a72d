"""The scenario `camera`."""

import itertools

import numpy as np
import pytest
from world_scenes import colors_in, of_scenario

from qtablate.world.scene import (
    FRAMES,
    render,
)


@pytest.mark.parametrize("camera", ["left", "right"])
def test_camera_moving_sideways_shifts_the_frame_the_other_way(camera):
    mine = [scene for scene in of_scenario("camera") if scene.camera == camera]
    assert len(mine) > 3
    for scene in mine:
        for a, b in itertools.pairwise(render(scene)):
            if camera == "right":
                assert (b[:, :-2] == a[:, 2:]).all()
            else:
                assert (b[:, 2:] == a[:, :-2]).all()
            assert (a != b).any()


@pytest.mark.parametrize("camera", ["forward", "back"])
def test_camera_moving_forward_or_back_zooms_around_the_center(camera):
    mine = [scene for scene in of_scenario("camera") if scene.camera == camera]
    assert len(mine) > 3
    for scene in mine:
        near = range(FRAMES) if camera == "forward" else range(FRAMES - 1, -1, -1)
        for obj in scene.objects:
            x, y, r = obj.x[near[0]], obj.y[near[0]], obj.radius[near[0]]
            for frame, zoom in zip(near, (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7), strict=True):
                assert abs(obj.x[frame] - 16 - zoom * (x - 16)) <= 0.5 + 1e-9
                assert abs(obj.y[frame] - 16 - zoom * (y - 16)) <= 0.5 + 1e-9
                assert abs(obj.radius[frame] - zoom * r) <= 0.5 + 1e-9
        assert len(scene.floor_dots) == FRAMES
        spread = [np.abs(np.array(places) - 16).max(axis=1) for places in scene.floor_dots]
        seen = [int((far < 16).sum()) for far in spread]
        assert seen[near[0]] >= seen[near[-1]]  # dots leave the picture, and none comes in


def test_every_frame_of_a_camera_scene_changes():
    """Dots or objects are in view in every frame, so that no camera scene is a plain floor."""
    for scene in of_scenario("camera"):
        clip = render(scene)
        for a, b in itertools.pairwise(clip):
            assert len(colors_in(a)) > 1
            assert (a != b).any()
