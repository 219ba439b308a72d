"""Collisions and the scenario `push`."""

from collections import Counter

import numpy as np
from world_scenes import in_place, of_scenario, path, steps, toward

from qtablate.world.collisions import initial_bodies, simulate_collisions
from qtablate.world.scene import IMAGE_SIZE, Scene, SceneObject


def in_the_way(scene: Scene, obj: SceneObject, direction: str, frame: int) -> list[SceneObject]:
    """The objects that an object would run into with its next step."""
    x, y = np.add((obj.x[frame], obj.y[frame]), toward(direction, 4))
    return [o for o in scene.objects if o is not obj and max(abs(o.x[frame] - x), abs(o.y[frame] - y)) < 7]


def at_the_edge(obj: SceneObject, direction: str, frame: int = -1) -> bool:
    x, y = np.add((obj.x[frame], obj.y[frame]), toward(direction, 4))
    return not (3 <= x < IMAGE_SIZE - 3 and 3 <= y < IMAGE_SIZE - 3)


def test_collision_passes_the_motion_on():
    """The object that rolls stops beside its partner and rests. The partner moves on from the next frame, at the same speed and
    in the same direction, unless a third object at the edge blocks it. The edge stops all, and nothing else is touched."""
    ends = Counter()
    for scene in of_scenario("push"):
        named = {obj.color: obj for obj in scene.objects}
        (roller,) = [obj for obj in scene.objects if obj.motion == "roll"]
        partner, way = named[roller.partner], roller.direction
        goes = toward(way, 4)
        stop = steps(roller).index((0, 0))
        assert stop >= 1
        assert steps(roller) == [goes] * stop + [(0, 0)] * (7 - stop)
        assert in_the_way(scene, roller, way, stop) == [partner]
        assert partner.partner == roller.color
        assert path(partner)[: stop + 2] == [path(partner)[0]] * (stop + 2)
        ends[partner.motion] += 1
        if partner.motion == "hit":
            rolled = steps(partner)[stop + 1 :].count(goes)
            assert steps(partner)[stop + 1 :] == [goes] * rolled + [(0, 0)] * (6 - stop - rolled)
            assert partner.direction == way
            assert at_the_edge(partner, way) or rolled == 6 - stop
        else:
            assert (partner.motion, partner.direction) == ("blocked", "")
            assert in_place(partner)
            (third,) = in_the_way(scene, partner, way, stop)
            assert (third.motion, third.partner, in_place(third)) == ("blocked", partner.color, True)
            assert at_the_edge(third, way)
        for obj in scene.objects:
            if obj.motion == "cross":
                count = steps(obj).count(toward(obj.direction, 4))
                assert count >= 1
                assert steps(obj) == [toward(obj.direction, 4)] * count + [(0, 0)] * (7 - count)
                assert at_the_edge(obj, obj.direction) or count == 7
                for frame in range(count):  # it may follow what makes way in the same moment
                    assert all(steps(o)[frame] != (0, 0) for o in in_the_way(scene, obj, obj.direction, frame))
            elif obj.motion == "still":
                assert in_place(obj)
                assert obj.partner == ""
        assert {obj.motion for obj in scene.objects if obj.partner} <= {"roll", "hit", "blocked"}
    assert min(ends["hit"], ends["blocked"]) > 0.2 * ends.total()


def test_one_object_of_a_chain_moves_at_a_time():
    for scene in of_scenario("push"):
        chain = [steps(obj) for obj in scene.objects if obj.motion in ("roll", "hit", "blocked")]
        moving = [sum(step != (0, 0) for step in frame) for frame in zip(*chain, strict=True)]
        assert set(moving) <= {0, 1}
        assert moving[0] == 1


def test_simulating_a_scene_again_gives_the_same_trajectories():
    """Removing an object changes the trajectories only of objects that met it or were moved by it."""
    changed = 0
    for scene in of_scenario("push"):
        for obj, again in zip(scene.objects, simulate_collisions(initial_bodies(scene)), strict=True):
            assert again is not None
            assert (again.x, again.y) == (obj.x, obj.y)
        for gone, without in enumerate(scene.objects):
            rolled = simulate_collisions(initial_bodies(scene, gone))
            assert rolled[gone] is None
            same = [r is None or (r.x, r.y) == (t.x, t.y) for r, t in zip(rolled, scene.objects, strict=True)]
            assert all(same) or without.motion in ("roll", "hit", "blocked")
            changed += not all(same)
    assert changed > 40
