"""The scenario `cups`."""

import itertools
from collections import Counter

from world_scenes import COIN, of_scenario

from qtablate.world.scene import (
    FRAMES,
    render,
)


def test_neighboring_cups_change_places():
    for scene in of_scenario("cups"):
        cups = scene.objects[:3]
        places, row = sorted(obj.x[0] for obj in cups), cups[0].y[0]
        assert [b - a for a, b in itertools.pairwise(places)] == [8, 8]
        before = [obj.x[0] for obj in cups]
        for frame in range(FRAMES):
            aside = [obj for obj in cups if obj.y[frame] != row]
            now = [obj.x[frame] for obj in cups]
            if aside:  # one above, one below, both half-way; the next frame has them in each other's place
                a, b = aside
                assert sorted((a.y[frame], b.y[frame])) == [row - 4, row + 4]
                assert 2 * a.x[frame] == 2 * b.x[frame] == a.x[frame - 1] + b.x[frame - 1]
                assert (a.x[frame + 1], b.x[frame + 1]) == (b.x[frame - 1], a.x[frame - 1])
            else:
                assert sorted(now) == places
                assert now == before or any(obj.y[frame - 1] != row for obj in cups)
                before = now


def test_coin_is_visible_in_its_cup_in_the_first_two_frames_only():
    first = Counter()
    for scene in of_scenario("cups"):
        coin = (render(scene) == COIN).all(axis=-1)
        assert coin.sum(axis=(1, 2)).tolist() == [9, 9, *[0] * 6]
        cup = scene.objects[scene.coin_index]
        for frame in (0, 1):
            assert coin[frame, cup.y[frame] - 1 : cup.y[frame] + 2, cup.x[frame] - 1 : cup.x[frame] + 2].all()
            assert cup.y[frame] == cup.y[0]  # no cup moves while the coin is seen
        first[sorted(obj.x[0] for obj in scene.objects[:3]).index(cup.x[0])] += 1
    assert min(first[place] for place in range(3)) > 0.15 * first.total()
