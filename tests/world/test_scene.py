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
from qtablate.world.motions import DEEDS
from qtablate.world.scenarios import LEVELS, STORIES, bodies_of, roll, simulate
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLOURS,
    DIRECTIONS,
    FORMS,
    FRAMES,
    GESTURES,
    LETTERS,
    OPPOSITE,
    POSES,
    SHAPES,
    SIDE,
    Scene,
    Thing,
    render,
)

SCENES = [simulate(Rng("test", "scene", level, number), LEVELS[level]) for number in range(300) for level in LEVELS]
NORMAL = SCENES[list(LEVELS).index("normal") :: len(LEVELS)]
THINGS = [thing for scene in SCENES for thing in scene.things]
OWN_DEEDS = {"push": {"roll", "cross", "hit", "held", "still"}, "cups": {"cup", "still"}, "figures": set(GESTURES)}


def of_story(story: str, scenes: list[Scene] = SCENES) -> list[Scene]:
    return [scene for scene in scenes if scene.story == story]


def colours_in(frame: np.ndarray) -> dict[tuple[int, ...], int]:
    """How many pixels there are of each colour."""
    values, counts = np.unique(frame.astype(int) @ (1 << 16, 1 << 8, 1), return_counts=True)
    return {(v >> 16, v >> 8 & 255, v & 255): count for v, count in zip(values.tolist(), counts.tolist(), strict=True)}


def path(thing: Thing) -> list[tuple[int, int]]:
    return list(zip(thing.x, thing.y, strict=True))


def steps(thing: Thing) -> list[tuple[int, int]]:
    """How it moves from each frame to the next one."""
    return [(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(path(thing))]


def toward(direction: str, pixels: int) -> tuple[int, int]:
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    return dx * pixels, dy * pixels


def floor_between(a: Thing, b: Thing, frame: int) -> int:
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
    assert {scene.story for scene in SCENES} == set(STORIES)
    assert {thing.deed for thing in THINGS} == set(DEEDS).union(*OWN_DEEDS.values())
    assert {thing.form_at(frame) for thing in THINGS for frame in range(FRAMES)} == set(FORMS)
    assert {thing.colour for thing in THINGS} == set(COLOURS)
    assert {scene.background for scene in SCENES} == {scene.background_then for scene in SCENES} == set(BACKGROUNDS)
    assert {scene.camera for scene in SCENES} == {*CAMERA, ""}


def test_stories_are_told_as_often_as_their_shares_say():
    assert sum(share for _, share in STORIES.values()) == pytest.approx(1)
    told = Counter(scene.story for scene in SCENES)
    for story, (_, share) in STORIES.items():
        error = (share * (1 - share) / len(SCENES)) ** 0.5
        assert abs(told[story] / len(SCENES) - share) < 4 * error, story


def test_deeds_belong_to_their_stories():
    for scene in SCENES:
        for thing in scene.things:
            assert thing.deed in OWN_DEEDS.get(scene.story, set(DEEDS))
        assert (scene.coin >= 0) == (scene.story == "cups")
        assert (scene.odd >= 0) == (scene.story == "crowd")
        assert (scene.camera in CAMERA) == bool(scene.stars) == (scene.story == "camera")


def test_things_stay_on_the_floor_whole_unless_the_camera_goes():
    for scene in SCENES:
        for thing in scene.things:
            assert len(thing.x) == len(thing.y) == len(thing.radius) == len(thing.visible) == FRAMES
            for x, y, r in zip(thing.x, thing.y, thing.radius, strict=True):
                assert scene.camera or (r <= x < SIDE - r and r <= y < SIDE - r)


def test_things_never_overlap():
    """Not even where they are hidden or out of view; cups in the middle of a swap do not touch either."""
    for scene in SCENES:
        for a, b in itertools.combinations(scene.things, 2):
            assert min(floor_between(a, b, frame) for frame in range(FRAMES)) >= 1


def assert_colours_name_things(scene: Scene) -> None:
    shown = [{thing.colour_at(frame) for frame in range(FRAMES)} for thing in scene.things]
    assert sum(map(len, shown)) == len(set().union(*shown)), [(t.name, t.then) for t in scene.things]


def test_colours_name_things():
    """A thing's colour, before and after, belongs to it alone: questions name things by it. Cups are asked about by place."""
    for scene in SCENES:
        if scene.story == "cups":
            assert [thing.form == "cup" for thing in scene.things] == [True] * 3 + [False] * (len(scene.things) - 3)
            assert len({thing.colour for thing in scene.things[:3]}) == 1
            assert_colours_name_things(replace(scene, things=scene.things[2:]))
        else:
            assert_colours_name_things(scene)


@pytest.mark.parametrize("level", LEVELS)
def test_colours_name_things_where_many_change_theirs(level):
    """Several things that become another colour are rare among all scenes, so this story is told more often here."""
    tell, _ = STORIES["medley"]
    for number in range(1000):
        things = tuple(tell(Rng("test", "many", number), LEVELS[level]).things)
        assert_colours_name_things(Scene("medley", things, "black", "black"))


@pytest.mark.parametrize("form", [*SHAPES, *LETTERS, "figure"])
def test_frames_agree_with_the_log_at_every_centre(form):
    seen = 0
    for scene in SCENES:
        clip = render(scene) if any(thing.form == form for thing in scene.things) and not scene.camera else None
        for thing in (thing for thing in scene.things if thing.form == form and clip is not None):
            below = thing.radius[0] if form in "LU" else 0  # these two are empty in the middle
            for frame in range(FRAMES):
                pixel = tuple(clip[frame, thing.y[frame] + below, thing.x[frame]])
                shown, floor = COLOURS[thing.colour_at(frame)], BACKGROUNDS[scene.background_in(frame)]
                assert pixel == (shown if thing.visible[frame] else floor)
                seen += thing.visible[frame]
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
    thing = Thing("red", form, "still", x=(10,), y=(20,), radius=(r,), visible=(True,))
    if form in POSES:
        thing = replace(thing, form="figure", poses=(form,))
    [picture] = render(Scene("by hand", (thing,), "navy", "navy"), 1)
    red = (picture == COLOURS["red"]).all(axis=-1)
    assert ["".join(".#"[int(on)] for on in row) for row in red[20 - r : 21 + r, 10 - r : 11 + r]] == rows
    assert (picture[~red] == BACKGROUNDS["navy"]).all()
    assert red.sum() == sum(row.count("#") for row in rows)


COIN = (255, 215, 0)


def test_only_the_logs_colours_are_in_a_frame():
    """A floor, things that can be seen, and where the camera goes dots that are neither."""
    named = {*COLOURS.values(), *BACKGROUNDS.values(), COIN}
    for scene in SCENES[:300]:
        for number, frame in enumerate(render(scene)):
            expected = {COLOURS[t.colour_at(number)] for t in scene.things if t.visible[number]}
            floor = BACKGROUNDS[scene.background_in(number)]
            found = set(colours_in(frame))
            dot = tuple(part + 60 for part in floor)
            assert dot not in named
            if scene.camera:  # things may be out of view
                assert found <= {*expected, floor, dot}
            else:
                assert found == {*expected, floor, *([COIN] if scene.coin >= 0 and number < 2 else [])}


def test_the_floor_changes_in_the_frame_that_the_log_says():
    changing = [scene for scene in SCENES if scene.background != scene.background_then]
    still = [scene for scene in SCENES if not scene.camera]
    assert 0.3 < len(changing) / len(still) < 0.5
    assert not any(scene.camera for scene in changing)
    for scene in changing:
        floors = [max(colours_in(frame).items(), key=lambda one: one[1])[0] for frame in render(scene)]
        first, then = BACKGROUNDS[scene.background], BACKGROUNDS[scene.background_then]
        assert floors == [first] * scene.background_at + [then] * (FRAMES - scene.background_at)


def in_place(thing: Thing) -> bool:
    return len(set(path(thing))) == 1


def of_one_size(thing: Thing) -> bool:
    return len(set(thing.radius)) == 1


SOLO = [thing for scene in SCENES if scene.story not in ("camera", *OWN_DEEDS) for thing in scene.things]


@pytest.mark.parametrize("deed", DEEDS)
def test_deeds_do_what_their_names_say(deed):
    mine = [thing for thing in SOLO if thing.deed == deed]
    assert len(mine) > 20
    for t in mine:
        first = toward(t.direction, 1) if t.direction else ()
        then = toward(t.then, 1) if t.then in DIRECTIONS else ()
        legs = [tuple(np.sign(step)) for step in steps(t)]
        assert in_place(t) == (deed not in ("move", "turn", "loop", "shuttle", "sway", "bounce"))
        assert of_one_size(t) == (deed not in ("grow", "shrink", "pulse"))
        assert all(t.visible) == (deed not in ("blink", "appear", "vanish"))
        assert bool(t.direction) == (deed in ("move", "turn", "loop", "shuttle"))
        match deed:
            case "move":
                assert legs == [first] * 7
            case "turn":
                assert legs == [first] * 4 + [then] * 3
                assert t.then not in (t.direction, OPPOSITE[t.direction])
            case "loop":  # the fourth side leads to where it began
                assert legs[:2] == [first] * 2
                assert legs[4:] == [toward(OPPOSITE[t.direction], 1)] * 2 + [(0, 0)]
                assert legs[2:4] == [toward(OPPOSITE[t.then], 1)] * 2
                assert t.then not in (t.direction, OPPOSITE[t.direction])
                assert path(t)[0] == tuple(np.add(path(t)[-1], toward(t.then, 8)))
                assert len({*path(t)[:7]}) == 7
            case "shuttle":  # and so does the way back of this one
                assert t.then == OPPOSITE[t.direction]
                assert legs == [first] * 2 + [then] * 2 + [first] * 2 + [(0, 0)]
                assert path(t)[0] == path(t)[4] == tuple(np.add(path(t)[-1], toward(t.then, 8)))
            case "sway" | "bounce":
                still, swings = (t.y, t.x) if deed == "sway" else (t.x, t.y)
                assert len(set(still)) == 1
                assert sorted({place - swings[0] for place in swings}) == [-2, 0, 2]
            case "grow" | "shrink":
                assert list(t.radius) == sorted(t.radius, reverse=deed == "shrink")
                assert {t.radius[0], t.radius[-1]} in ({2, 4}, {3, 5})
            case "pulse":
                middle = t.radius[0]
                assert middle == t.radius[4]
                assert {*t.radius} == {middle - 1, middle, middle + 1}
            case "blink":
                assert sum(a and not b for a, b in itertools.pairwise(t.visible)) == t.times
                assert t.visible[0]
                assert t.visible[-1]
            case "appear" | "vanish":
                assert list(t.visible) == [(frame >= t.at) == (deed == "appear") for frame in range(FRAMES)]
            case "recolour":
                assert [t.colour_at(frame) for frame in range(FRAMES)] == [t.colour] * t.at + [t.then] * (FRAMES - t.at)
                assert t.colour != t.then
        assert (1 <= t.at <= 6) == (deed in ("recolour", "appear", "vanish"))


def test_figures_move_their_arms_alone():
    """Arms go up, or down, pose by pose and once; or they change between two poses in every frame, whichever is first."""
    figures = [thing for scene in of_story("figures") for thing in scene.things]
    shown: dict[str, set[tuple[str, ...]]] = {deed: set() for deed in GESTURES}
    for t in figures:
        assert in_place(t)
        assert of_one_size(t)
        assert all(t.visible)
        assert [t.form_at(frame) for frame in range(FRAMES)] == list(t.poses)
        heights = [POSES.index(pose) for pose in t.poses]
        shown[t.deed].add(tuple(dict.fromkeys(t.poses)))
        if t.deed in ("raise", "lower"):
            assert heights == sorted(heights, reverse=t.deed == "lower")
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
    for scene in of_story("crowd"):
        deeds = [(thing.deed, thing.direction) for thing in scene.things]
        odd = deeds.pop(scene.odd)
        assert len(deeds) >= 2
        assert len({*deeds}) == 1
        assert odd != deeds[0]
        against.add(odd[0] == deeds[0][0])
    assert against == {True, False}  # one that moves against the others occurs too


def test_episodes_are_three_events_one_after_the_other():
    for scene in of_story("episode"):
        events = sorted(thing.at for thing in scene.things if thing.at)
        assert [(at + 1) // 2 for at in events] == [1, 2, 3]
        assert [thing.deed for thing in scene.things if not thing.at] in ([], ["still"])


def test_letters_appear_one_after_the_other():
    for scene in of_story("letters"):
        times = [thing.at for thing in scene.things]
        assert len({*times}) == len(times)
        assert {(thing.deed, thing.form in LETTERS) for thing in scene.things} == {("appear", True)}


def blocked(scene: Scene, thing: Thing, direction: str, frame: int) -> list[Thing]:
    """What a thing would run into if it took another step of its own."""
    x, y = np.add((thing.x[frame], thing.y[frame]), toward(direction, 4))
    return [o for o in scene.things if o is not thing and max(abs(o.x[frame] - x), abs(o.y[frame] - y)) < 7]


def at_the_edge(thing: Thing, direction: str, frame: int = -1) -> bool:
    x, y = np.add((thing.x[frame], thing.y[frame]), toward(direction, 4))
    return not (3 <= x < SIDE - 3 and 3 <= y < SIDE - 3)


def test_a_push_passes_on_what_moves():
    """The thing that rolls stops beside its partner and rests; the partner goes on from the next frame, as fast and in the
    same direction, or is held by what stands between it and the edge; the edge stops all, and nothing else is touched."""
    ends = Counter()
    for scene in of_story("push"):
        named = {thing.colour: thing for thing in scene.things}
        (roller,) = [thing for thing in scene.things if thing.deed == "roll"]
        partner, way = named[roller.partner], roller.direction
        goes = toward(way, 4)
        stop = steps(roller).index((0, 0))
        assert stop >= 1
        assert steps(roller) == [goes] * stop + [(0, 0)] * (7 - stop)
        assert blocked(scene, roller, way, stop) == [partner]
        assert partner.partner == roller.colour
        assert path(partner)[: stop + 2] == [path(partner)[0]] * (stop + 2)
        ends[partner.deed] += 1
        if partner.deed == "hit":
            rolled = steps(partner)[stop + 1 :].count(goes)
            assert steps(partner)[stop + 1 :] == [goes] * rolled + [(0, 0)] * (6 - stop - rolled)
            assert partner.direction == way
            assert at_the_edge(partner, way) or rolled == 6 - stop
        else:
            assert (partner.deed, partner.direction) == ("held", "")
            assert in_place(partner)
            (third,) = blocked(scene, partner, way, stop)
            assert (third.deed, third.partner, in_place(third)) == ("held", partner.colour, True)
            assert at_the_edge(third, way)
        for thing in scene.things:
            if thing.deed == "cross":
                count = steps(thing).count(toward(thing.direction, 4))
                assert count >= 1
                assert steps(thing) == [toward(thing.direction, 4)] * count + [(0, 0)] * (7 - count)
                assert at_the_edge(thing, thing.direction) or count == 7
                for frame in range(count):  # it may follow what makes way in the same moment
                    assert all(steps(o)[frame] != (0, 0) for o in blocked(scene, thing, thing.direction, frame))
            elif thing.deed == "still":
                assert in_place(thing)
                assert thing.partner == ""
        assert {thing.deed for thing in scene.things if thing.partner} <= {"roll", "hit", "held"}
    assert min(ends["hit"], ends["held"]) > 0.2 * ends.total()


def test_in_a_push_one_thing_moves_at_a_time_but_for_those_that_pass_by():
    for scene in of_story("push"):
        chain = [steps(thing) for thing in scene.things if thing.deed in ("roll", "hit", "held")]
        moving = [sum(step != (0, 0) for step in frame) for frame in zip(*chain, strict=True)]
        assert set(moving) <= {0, 1}
        assert moving[0] == 1


def test_rolling_the_bodies_of_a_push_again_tells_the_same_story():
    """And taking one away leaves what never met it, or what it moved, as it was."""
    changed = 0
    for scene in of_story("push"):
        for thing, again in zip(scene.things, roll(bodies_of(scene)), strict=True):
            assert again is not None
            assert (again.x, again.y) == (thing.x, thing.y)
        for gone, without in enumerate(scene.things):
            rolled = roll(bodies_of(scene, gone))
            assert rolled[gone] is None
            same = [r is None or (r.x, r.y) == (t.x, t.y) for r, t in zip(rolled, scene.things, strict=True)]
            assert all(same) or without.deed in ("roll", "hit", "held")
            changed += not all(same)
    assert changed > 40


def swaps_of(scene: Scene) -> int:
    """How often two cups are between two places."""
    row = scene.things[0].y[0]
    return sum(any(thing.y[frame] != row for thing in scene.things[:3]) for frame in range(FRAMES))


def test_neighbouring_cups_change_places():
    for scene in of_story("cups"):
        cups = scene.things[:3]
        places, row = sorted(thing.x[0] for thing in cups), cups[0].y[0]
        assert [b - a for a, b in itertools.pairwise(places)] == [8, 8]
        before = [thing.x[0] for thing in cups]
        for frame in range(FRAMES):
            aside = [thing for thing in cups if thing.y[frame] != row]
            now = [thing.x[frame] for thing in cups]
            if aside:  # one above, one below, both half-way; the next frame has them in each other's place
                a, b = aside
                assert sorted((a.y[frame], b.y[frame])) == [row - 4, row + 4]
                assert 2 * a.x[frame] == 2 * b.x[frame] == a.x[frame - 1] + b.x[frame - 1]
                assert (a.x[frame + 1], b.x[frame + 1]) == (b.x[frame - 1], a.x[frame - 1])
            else:
                assert sorted(now) == places
                assert now == before or any(thing.y[frame - 1] != row for thing in cups)
                before = now


def test_the_coin_is_seen_in_the_first_two_frames_alone_and_under_its_cup():
    first = Counter()
    for scene in of_story("cups"):
        coin = (render(scene) == COIN).all(axis=-1)
        assert coin.sum(axis=(1, 2)).tolist() == [9, 9, *[0] * 6]
        cup = scene.things[scene.coin]
        for frame in (0, 1):
            assert coin[frame, cup.y[frame] - 1 : cup.y[frame] + 2, cup.x[frame] - 1 : cup.x[frame] + 2].all()
            assert cup.y[frame] == cup.y[0]  # no cup moves while the coin is seen
        first[sorted(thing.x[0] for thing in scene.things[:3]).index(cup.x[0])] += 1
    assert min(first[place] for place in range(3)) > 0.15 * first.total()


@pytest.mark.parametrize("camera", ["left", "right"])
def test_a_camera_that_goes_aside_shifts_the_whole_picture_the_other_way(camera):
    mine = [scene for scene in of_story("camera") if scene.camera == camera]
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
    mine = [scene for scene in of_story("camera") if scene.camera == camera]
    assert len(mine) > 3
    for scene in mine:
        near = range(FRAMES) if camera == "forward" else range(FRAMES - 1, -1, -1)
        for thing in scene.things:
            x, y, r = thing.x[near[0]], thing.y[near[0]], thing.radius[near[0]]
            for frame, zoom in zip(near, (1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7), strict=True):
                assert abs(thing.x[frame] - 16 - zoom * (x - 16)) <= 0.5 + 1e-9
                assert abs(thing.y[frame] - 16 - zoom * (y - 16)) <= 0.5 + 1e-9
                assert abs(thing.radius[frame] - zoom * r) <= 0.5 + 1e-9
        assert len(scene.stars) == FRAMES
        spread = [np.abs(np.array(places) - 16).max(axis=1) for places in scene.stars]
        seen = [int((far < 16).sum()) for far in spread]
        assert seen[near[0]] >= seen[near[-1]]  # dots leave the picture, and none comes in


def test_the_camera_shows_something_that_goes_with_it():
    """In every frame dots or things are in view, so that no camera scene is a plain floor."""
    for scene in of_story("camera"):
        clip = render(scene)
        for a, b in itertools.pairwise(clip):
            assert len(colours_in(a)) > 1
            assert (a != b).any()


def test_images_have_one_frame_of_things_that_are_simply_there():
    forms = set()
    for number in range(100):
        scene = scene_of(f"world/normal/train/image/{number}")
        assert render(scene, 1).shape == (1, SIDE, SIDE, 3)
        assert {thing.deed for thing in scene.things} == {"still"}
        assert all(all(thing.visible) for thing in scene.things)
        assert scene.background == scene.background_then
        assert not scene.camera
        forms |= {thing.form for thing in scene.things}
    assert forms == {*SHAPES, *LETTERS}


FREE = ("medley", "traffic", "fidgets", "letters", "patrol", "figures", "camera")


@pytest.mark.parametrize("level", LEVELS)
def test_scenes_hold_as_many_things_as_their_level_says_and_seldom_fewer(level):
    scenes = [scene for scene in SCENES[list(LEVELS).index(level) :: len(LEVELS)] if scene.story in FREE]
    least, most = {"easy": (2, 3), "normal": (2, 4), "hard": (3, 5)}[level]
    counts = [len(scene.things) for scene in scenes]
    assert min(counts) >= 1
    assert max(counts) == most
    assert sum(count < least for count in counts) < (0.15 if level == "hard" else 0.05) * len(counts)


def test_a_harder_level_has_more_things_and_more_swaps():
    crowds, things, swaps = {}, {}, {}
    for number, level in enumerate(LEVELS):
        mine = SCENES[number :: len(LEVELS)]
        things[level] = np.mean([len(scene.things) for scene in mine if scene.story in FREE])
        swaps[level] = {swaps_of(scene) for scene in of_story("cups", mine)}
        crowds[level] = {len(scene.things) for scene in of_story("crowd", mine)}
    assert things["easy"] < things["normal"] < things["hard"]
    assert swaps == {"easy": {1}, "normal": {1, 2}, "hard": {2}}
    assert crowds == {"easy": {3}, "normal": {3, 4}, "hard": {3, 4, 5}}


def test_a_clip_takes_well_under_five_milliseconds():
    rounds = []
    for number in range(3):  # the best of three: another process may have the core
        start = time.process_time()
        for clip in range(100):
            render(simulate(Rng("speed", number, clip)))
        rounds.append((time.process_time() - start) / 100)
    assert min(rounds) < 0.0025
