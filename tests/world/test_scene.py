"""The world's clips: the same everywhere, on the floor, apart, and showing what the log says."""

import hashlib
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from qtablate.seeds import Rng
from qtablate.world.benchmark import scene_of
from qtablate.world.collisions import initial_bodies, simulate_collisions
from qtablate.world.levels import LEVELS
from qtablate.world.motions import MOTIONS
from qtablate.world.scenarios import SCENARIOS, random_scene
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLORS,
    FORMS,
    FRAMES,
    GESTURES,
    IMAGE_SIZE,
    LETTERS,
    OPPOSITE,
    POSES,
    SHAPES,
    Scene,
    SceneObject,
    render,
)

SCENES = [random_scene(Rng("test", "scene", level, number), LEVELS[level]) for number in range(300) for level in LEVELS]
NORMAL = SCENES[list(LEVELS).index("normal") :: len(LEVELS)]
OBJECTS = [obj for scene in SCENES for obj in scene.objects]
SCENARIO_MOTIONS = {"push": {"roll", "cross", "hit", "blocked", "still"}, "cups": {"cup", "still"}, "figures": set(GESTURES)}


def of_scenario(scenario: str, scenes: list[Scene] = SCENES) -> list[Scene]:
    return [scene for scene in scenes if scene.scenario == scenario]


def colors_in(frame: np.ndarray) -> dict[tuple[int, ...], int]:
    """How many pixels there are of each colour."""
    values, counts = np.unique(frame.astype(int) @ (1 << 16, 1 << 8, 1), return_counts=True)
    return {(v >> 16, v >> 8 & 255, v & 255): count for v, count in zip(values.tolist(), counts.tolist(), strict=True)}


def path(obj: SceneObject) -> list[tuple[int, int]]:
    return list(zip(obj.x, obj.y, strict=True))


def steps(obj: SceneObject) -> list[tuple[int, int]]:
    """How it moves from each frame to the next one."""
    return [(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(path(obj))]


def toward(direction: str, pixels: int) -> tuple[int, int]:
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    return dx * pixels, dy * pixels


def floor_between(a: SceneObject, b: SceneObject, frame: int) -> int:
    """Pixels of floor between the boxes of two things; negative where they overlap."""
    far = max(abs(a.x[frame] - b.x[frame]), abs(a.y[frame] - b.y[frame]))
    return far - a.radius[frame] - b.radius[frame] - 1


def test_same_clips_in_another_process():
    code = (
        "import hashlib\n"
        "from qtablate.world.benchmark import WorldBench\n"
        "frames = WorldBench().frames\n"
        "names = [f'world/{level}/eval/{medium}/{n}'"
        " for medium in ('video', 'image') for level in ('easy', 'normal', 'hard') for n in range(40)]\n"
        "print(hashlib.sha256(b''.join(frames(name).tobytes() for name in names)).hexdigest())"
    )
    environment = os.environ | {"PYTHONHASHSEED": "99"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    made = [
        render(scene_of(f"world/{level}/eval/{medium}/{n}"), frames).tobytes()
        for medium, frames in (("video", FRAMES), ("image", 1))
        for level in ("easy", "normal", "hard")
        for n in range(40)
    ]
    assert out.strip() == hashlib.sha256(b"".join(made)).hexdigest()


def test_everything_that_the_world_names_occurs():
    assert {scene.scenario for scene in SCENES} == set(SCENARIOS)
    assert {obj.motion for obj in OBJECTS} == set(MOTIONS).union(*SCENARIO_MOTIONS.values())
    assert {obj.form_at(frame) for obj in OBJECTS for frame in range(FRAMES)} == set(FORMS)
    assert {obj.color for obj in OBJECTS} == set(COLORS)
    assert {scene.background for scene in SCENES} == {scene.final_background for scene in SCENES} == set(BACKGROUNDS)
    assert {scene.camera for scene in SCENES} == {*CAMERA, ""}


def test_stories_are_told_as_often_as_their_shares_say():
    assert sum(share for _, share in SCENARIOS.values()) == pytest.approx(1)
    told = Counter(scene.scenario for scene in SCENES)
    for scenario, (_, share) in SCENARIOS.items():
        error = (share * (1 - share) / len(SCENES)) ** 0.5
        assert abs(told[scenario] / len(SCENES) - share) < 4 * error, scenario


def test_motions_belong_to_their_scenarios():
    for scene in SCENES:
        for obj in scene.objects:
            assert obj.motion in SCENARIO_MOTIONS.get(scene.scenario, set(MOTIONS))
        assert (scene.coin_index is not None) == (scene.scenario == "cups")
        assert (scene.odd_index is not None) == (scene.scenario == "crowd")
        assert (scene.camera in CAMERA) == bool(scene.floor_dots) == (scene.scenario == "camera")


def test_things_stay_on_the_floor_whole_unless_the_camera_goes():
    for scene in SCENES:
        for obj in scene.objects:
            assert len(obj.x) == len(obj.y) == len(obj.radius) == len(obj.visible) == FRAMES
            for x, y, r in zip(obj.x, obj.y, obj.radius, strict=True):
                assert scene.camera or (r <= x < IMAGE_SIZE - r and r <= y < IMAGE_SIZE - r)


def test_things_never_overlap():
    """Not even where they are hidden or out of view; cups in the middle of a swap do not touch either."""
    for scene in SCENES:
        for a, b in itertools.combinations(scene.objects, 2):
            assert min(floor_between(a, b, frame) for frame in range(FRAMES)) >= 1


def assert_colors_name_things(scene: Scene) -> None:
    shown = [{obj.color_at(frame) for frame in range(FRAMES)} for obj in scene.objects]
    assert sum(map(len, shown)) == len(set().union(*shown)), [(t.name, t.next_color) for t in scene.objects]


def test_colors_name_things():
    """A thing's colour, before and after, belongs to it alone: questions name things by it. Cups are asked about by place."""
    for scene in SCENES:
        if scene.scenario == "cups":
            assert [obj.form == "cup" for obj in scene.objects] == [True] * 3 + [False] * (len(scene.objects) - 3)
            assert len({obj.color for obj in scene.objects[:3]}) == 1
            assert_colors_name_things(replace(scene, objects=scene.objects[2:]))
        else:
            assert_colors_name_things(scene)


@pytest.mark.parametrize("level", LEVELS)
def test_colors_name_things_where_many_change_theirs(level):
    """Several things that become another colour are rare among all scenes, so this story is told more often here."""
    generate, _ = SCENARIOS["medley"]
    for number in range(1000):
        objects = tuple(generate(Rng("test", "many", number), LEVELS[level]).objects)
        assert_colors_name_things(Scene("medley", objects, "black", "black"))


@pytest.mark.parametrize("form", [*SHAPES, *LETTERS, "figure"])
def test_frames_agree_with_the_log_at_every_centre(form):
    seen = 0
    for scene in SCENES:
        clip = render(scene) if any(obj.form == form for obj in scene.objects) and not scene.camera else None
        for obj in (obj for obj in scene.objects if obj.form == form and clip is not None):
            below = obj.radius[0] if form in "LU" else 0  # these two are empty in the middle
            for frame in range(FRAMES):
                pixel = tuple(clip[frame, obj.y[frame] + below, obj.x[frame]])
                shown, floor = COLORS[obj.color_at(frame)], BACKGROUNDS[scene.background_at(frame)]
                assert pixel == (shown if obj.visible[frame] else floor)
                seen += obj.visible[frame]
    assert seen > 50


PICTURES = {
    "square": ["#######", "#######", "#######", "#######", "#######", "#######", "#######"],
    "disc": ["..###..", ".#####.", "#######", "#######", "#######", ".#####.", "..###.."],
    "triangle": ["...#...", "...#...", "..###..", "..###..", ".#####.", ".#####.", "#######"],
    "cross": ["..###..", "..###..", "#######", "#######", "#######", "..###..", "..###.."],
    "T": ["#######", "#######", "..###..", "..###..", "..###..", "..###..", "..###.."],
    "L": ["##.....", "##.....", "##.....", "##.....", "##.....", "#######", "#######"],
    "H": ["##...##", "##...##", "#######", "#######", "#######", "##...##", "##...##"],
    "X": ["#.....#", ".#...#.", "..#.#..", "...#...", "..#.#..", ".#...#.", "#.....#"],
    "U": ["##...##", "##...##", "##...##", "##...##", "##...##", "#######", "#######"],
    "E": ["#######", "#######", "##.....", "#######", "##.....", "#######", "#######"],
    "down": ["..###..", "..###..", "...#...", "...#...", "..###..", ".#.#.#.", "#..#..#"],
    "out": ["..###..", "..###..", "...#...", "#######", "...#...", "...#...", "...#..."],
    "up": ["#.###.#", ".#####.", "..###..", "...#...", "...#...", "...#...", "...#..."],
    "cup": ["#######", "#######", "##.#.##", "#######", "##.#.##", "##...##", "##...##"],
}
"""At the middle radius."""
SMALL = {
    "square": ["#####", "#####", "#####", "#####", "#####"],
    "disc": [".###.", "#####", "#####", "#####", ".###."],
    "triangle": ["..#..", "..#..", ".###.", ".###.", "#####"],
    "cross": ["..#..", "..#..", "#####", "..#..", "..#.."],
}


def test_every_form_has_a_picture():
    assert set(PICTURES) == set(FORMS)
    assert len({tuple(rows) for rows in PICTURES.values()}) == len(FORMS)


@pytest.mark.parametrize(("form", "rows"), [*PICTURES.items(), *SMALL.items()])
def test_forms_look_like_this(form, rows):
    """And nothing else is in the frame."""
    r = len(rows) // 2
    obj = SceneObject("red", form, "still", x=(10,), y=(20,), radius=(r,), visible=(True,))
    if form in POSES:
        obj = replace(obj, form="figure", poses=(form,))
    [picture] = render(Scene("by hand", (obj,), "navy", "navy"), 1)
    red = (picture == COLORS["red"]).all(axis=-1)
    assert ["".join(".#"[int(on)] for on in row) for row in red[20 - r : 21 + r, 10 - r : 11 + r]] == rows
    assert (picture[~red] == BACKGROUNDS["navy"]).all()
    assert red.sum() == sum(row.count("#") for row in rows)


COIN = (255, 215, 0)


def test_only_the_logs_colors_are_in_a_frame():
    """A floor, things that can be seen, and where the camera goes dots that are neither."""
    named = {*COLORS.values(), *BACKGROUNDS.values(), COIN}
    for scene in SCENES[:300]:
        for number, frame in enumerate(render(scene)):
            expected = {COLORS[t.color_at(number)] for t in scene.objects if t.visible[number]}
            floor = BACKGROUNDS[scene.background_at(number)]
            found = set(colors_in(frame))
            dot = tuple(part + 60 for part in floor)
            assert dot not in named
            if scene.camera:  # things may be out of view
                assert found <= {*expected, floor, dot}
            else:
                assert found == {*expected, floor, *([COIN] if scene.coin_index is not None and number < 2 else [])}


def test_the_floor_changes_in_the_frame_that_the_log_says():
    changing = [scene for scene in SCENES if scene.background != scene.final_background]
    still = [scene for scene in SCENES if not scene.camera]
    assert 0.3 < len(changing) / len(still) < 0.5
    assert not any(scene.camera for scene in changing)
    for scene in changing:
        floors = [max(colors_in(frame).items(), key=lambda one: one[1])[0] for frame in render(scene)]
        first, then = BACKGROUNDS[scene.background], BACKGROUNDS[scene.final_background]
        assert floors == [first] * scene.background_change_frame + [then] * (FRAMES - scene.background_change_frame)


def in_place(obj: SceneObject) -> bool:
    return len(set(path(obj))) == 1


def of_one_size(obj: SceneObject) -> bool:
    return len(set(obj.radius)) == 1


SOLO = [obj for scene in SCENES if scene.scenario not in ("camera", *SCENARIO_MOTIONS) for obj in scene.objects]


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_do_what_their_names_say(motion):
    mine = [obj for obj in SOLO if obj.motion == motion]
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


def test_figures_move_their_arms_alone():
    """Arms go up, or down, pose by pose and once; or they change between two poses in every frame, whichever is first."""
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


def test_one_of_a_crowd_is_odd():
    """All others do the same, the same way."""
    against = set()
    for scene in of_scenario("crowd"):
        motions = [(obj.motion, obj.direction) for obj in scene.objects]
        odd = motions.pop(scene.odd_index)
        assert len(motions) >= 2
        assert len({*motions}) == 1
        assert odd != motions[0]
        against.add(odd[0] == motions[0][0])
    assert against == {True, False}  # one that moves against the others occurs too


def test_episodes_are_three_events_one_after_the_other():
    for scene in of_scenario("episode"):
        events = sorted(obj.event_frame for obj in scene.objects if obj.event_frame)
        assert [(at + 1) // 2 for at in events] == [1, 2, 3]
        assert [obj.motion for obj in scene.objects if not obj.event_frame] in ([], ["still"])


def test_letters_appear_one_after_the_other():
    for scene in of_scenario("letters"):
        times = [obj.event_frame for obj in scene.objects]
        assert len({*times}) == len(times)
        assert {(obj.motion, obj.form in LETTERS) for obj in scene.objects} == {("appear", True)}


def blocked(scene: Scene, obj: SceneObject, direction: str, frame: int) -> list[SceneObject]:
    """What a thing would run into if it took another step of its own."""
    x, y = np.add((obj.x[frame], obj.y[frame]), toward(direction, 4))
    return [o for o in scene.objects if o is not obj and max(abs(o.x[frame] - x), abs(o.y[frame] - y)) < 7]


def at_the_edge(obj: SceneObject, direction: str, frame: int = -1) -> bool:
    x, y = np.add((obj.x[frame], obj.y[frame]), toward(direction, 4))
    return not (3 <= x < IMAGE_SIZE - 3 and 3 <= y < IMAGE_SIZE - 3)


def test_a_push_passes_on_what_moves():
    """The thing that rolls stops beside its partner and rests; the partner goes on from the next frame, as fast and in the
    same direction, or is held by what stands between it and the edge; the edge stops all, and nothing else is touched."""
    ends = Counter()
    for scene in of_scenario("push"):
        named = {obj.color: obj for obj in scene.objects}
        (roller,) = [obj for obj in scene.objects if obj.motion == "roll"]
        partner, way = named[roller.partner], roller.direction
        goes = toward(way, 4)
        stop = steps(roller).index((0, 0))
        assert stop >= 1
        assert steps(roller) == [goes] * stop + [(0, 0)] * (7 - stop)
        assert blocked(scene, roller, way, stop) == [partner]
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
            (third,) = blocked(scene, partner, way, stop)
            assert (third.motion, third.partner, in_place(third)) == ("blocked", partner.color, True)
            assert at_the_edge(third, way)
        for obj in scene.objects:
            if obj.motion == "cross":
                count = steps(obj).count(toward(obj.direction, 4))
                assert count >= 1
                assert steps(obj) == [toward(obj.direction, 4)] * count + [(0, 0)] * (7 - count)
                assert at_the_edge(obj, obj.direction) or count == 7
                for frame in range(count):  # it may follow what makes way in the same moment
                    assert all(steps(o)[frame] != (0, 0) for o in blocked(scene, obj, obj.direction, frame))
            elif obj.motion == "still":
                assert in_place(obj)
                assert obj.partner == ""
        assert {obj.motion for obj in scene.objects if obj.partner} <= {"roll", "hit", "blocked"}
    assert min(ends["hit"], ends["blocked"]) > 0.2 * ends.total()


def test_in_a_push_one_thing_moves_at_a_time_but_for_those_that_pass_by():
    for scene in of_scenario("push"):
        chain = [steps(obj) for obj in scene.objects if obj.motion in ("roll", "hit", "blocked")]
        moving = [sum(step != (0, 0) for step in frame) for frame in zip(*chain, strict=True)]
        assert set(moving) <= {0, 1}
        assert moving[0] == 1


def test_rolling_the_bodies_of_a_push_again_tells_the_same_story():
    """And taking one away leaves what never met it, or what it moved, as it was."""
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


def swaps_of(scene: Scene) -> int:
    """How often two cups are between two places."""
    row = scene.objects[0].y[0]
    return sum(any(obj.y[frame] != row for obj in scene.objects[:3]) for frame in range(FRAMES))


def test_neighbouring_cups_change_places():
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


def test_the_coin_is_seen_in_the_first_two_frames_alone_and_under_its_cup():
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


@pytest.mark.parametrize("camera", ["left", "right"])
def test_a_camera_that_goes_aside_shifts_the_whole_picture_the_other_way(camera):
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
def test_a_camera_that_goes_ahead_spreads_the_picture_from_its_middle(camera):
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


def test_the_camera_shows_something_that_goes_with_it():
    """In every frame dots or things are in view, so that no camera scene is a plain floor."""
    for scene in of_scenario("camera"):
        clip = render(scene)
        for a, b in itertools.pairwise(clip):
            assert len(colors_in(a)) > 1
            assert (a != b).any()


def test_images_have_one_frame_of_things_that_are_simply_there():
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


FREE = ("medley", "traffic", "fidgets", "letters", "patrol", "figures", "camera")


@pytest.mark.parametrize("level", LEVELS)
def test_scenes_hold_as_many_things_as_their_level_says_and_seldom_fewer(level):
    scenes = [scene for scene in SCENES[list(LEVELS).index(level) :: len(LEVELS)] if scene.scenario in FREE]
    least, most = {"easy": (2, 3), "normal": (2, 4), "hard": (3, 5)}[level]
    counts = [len(scene.objects) for scene in scenes]
    assert min(counts) >= 1
    assert max(counts) == most
    assert sum(count < least for count in counts) < (0.15 if level == "hard" else 0.05) * len(counts)


def test_a_harder_level_has_more_things_and_more_swaps():
    crowds, objects, swaps = {}, {}, {}
    for number, level in enumerate(LEVELS):
        mine = SCENES[number :: len(LEVELS)]
        objects[level] = np.mean([len(scene.objects) for scene in mine if scene.scenario in FREE])
        swaps[level] = {swaps_of(scene) for scene in of_scenario("cups", mine)}
        crowds[level] = {len(scene.objects) for scene in of_scenario("crowd", mine)}
    assert objects["easy"] < objects["normal"] < objects["hard"]
    assert swaps == {"easy": {1}, "normal": {1, 2}, "hard": {2}}
    assert crowds == {"easy": {3}, "normal": {3, 4}, "hard": {3, 4, 5}}


def test_a_clip_takes_well_under_five_milliseconds():
    rounds = []
    for number in range(3):  # the best of three: another process may have the core
        start = time.process_time()
        for clip in range(100):
            render(random_scene(Rng("speed", number, clip)))
        rounds.append((time.process_time() - start) / 100)
    assert min(rounds) < 0.0025
