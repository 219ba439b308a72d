"""Scenarios: each generates scenes that one or several tasks can ask about. A new scenario is one function in SCENARIOS."""

import itertools
from collections.abc import Callable
from dataclasses import replace

from qtablate.seeds import Rng
from qtablate.world.camera import camera
from qtablate.world.collisions import push
from qtablate.world.cups import cups
from qtablate.world.levels import LEVELS, Level
from qtablate.world.motions import MOTIONS, Track, appear, gesture, move, vanish
from qtablate.world.placement import COLOR_NAMES, SceneParts, draw_between, draw_objects, try_place
from qtablate.world.scene import BACKGROUNDS, DIRECTIONS, GESTURES, LETTERS, SHAPES, TIME_WORDS, Scene, SceneObject

_BACKGROUND_CHANGES = 0.4  # share of scenes whose background changes


def _medley(rng: Rng, level: Level) -> SceneParts:
    return SceneParts(draw_objects(rng, level, tuple(name for name in MOTIONS if name not in ("loop", "shuttle"))))


def _traffic(rng: Rng, level: Level) -> SceneParts:
    return SceneParts(draw_objects(rng, level, ("move", "still", "turn")))


def _fidgets(rng: Rng, level: Level) -> SceneParts:
    return SceneParts(draw_objects(rng, level, ("sway", "bounce", "pulse", "blink", "grow", "shrink")))


def _letters(rng: Rng, level: Level) -> SceneParts:
    return SceneParts(draw_objects(rng, replace(level, objects=(3, max(3, level.objects[1]))), ("appear",), LETTERS))


def _patrol(rng: Rng, level: Level) -> SceneParts:
    return SceneParts(draw_objects(rng, level, ("loop", "shuttle")))


def _figures(rng: Rng, level: Level) -> SceneParts:
    objects: list[SceneObject] = []
    for color in rng.shuffled(COLOR_NAMES)[: draw_between(rng, level.objects)]:
        motion = rng.choice(GESTURES)
        try_place(rng, level, objects, SceneObject(color, "figure", motion), gesture(rng, motion))
    return SceneParts(objects)


def _crowd(rng: Rng, level: Level) -> SceneParts:
    """All objects have the same motion but one, whose motion, or direction of motion, is another."""
    motions = ("still", "move", "sway", "bounce", "pulse", "grow", "shrink")
    while True:
        usual = rng.choice(motions)
        direction = rng.choice(tuple(DIRECTIONS))
        differs_by_direction = usual == "move" and rng.bernoulli(0.5)
        odd = "move" if differs_by_direction else rng.choice([motion for motion in motions if motion != usual])
        odd_direction = rng.choice([name for name in DIRECTIONS if name != direction])
        wanted = 3 + rng.randrange(level.crowd - 2)
        odd_index = rng.randrange(wanted)
        objects: list[SceneObject] = []
        for number, color in enumerate(rng.shuffled(COLOR_NAMES)[:wanted]):
            motion = odd if number == odd_index else usual
            own_direction = odd_direction if number == odd_index else direction
            track = move(own_direction) if motion == "move" else MOTIONS[motion](rng)
            if not try_place(rng, level, objects, SceneObject(color, rng.choice(SHAPES), motion), track):
                break
        else:
            return SceneParts(objects, odd_index=odd_index)


def _episode(rng: Rng, level: Level) -> SceneParts:
    """Three objects appear, vanish or change color one after the other; sometimes a fourth one stands still."""
    while True:
        colors = rng.shuffled(COLOR_NAMES)
        objects: list[SceneObject] = []
        for number, first in enumerate((1, 3, 5)):
            motion = rng.choice(("appear", "vanish", "recolor"))
            frame = first + rng.randrange(2)
            track = {"appear": appear(frame), "vanish": vanish(frame), "recolor": Track(event_frame=frame)}[motion]
            next_color = colors[-1 - number] if motion == "recolor" else ""
            obj = SceneObject(colors[number], rng.choice(SHAPES), motion, next_color=next_color)
            try_place(rng, level, objects, obj, track)
        if len(objects) == 3:
            if rng.bernoulli(0.5):
                try_place(rng, level, objects, SceneObject(colors[3], rng.choice(SHAPES), "still"), Track())
            return SceneParts(objects)


SCENARIOS: dict[str, tuple[Callable[[Rng, Level], SceneParts], float]] = {
    "medley": (_medley, 0.18),
    "traffic": (_traffic, 0.12),
    "fidgets": (_fidgets, 0.05),
    "letters": (_letters, 0.08),
    "patrol": (_patrol, 0.07),
    "figures": (_figures, 0.06),
    "crowd": (_crowd, 0.10),
    "episode": (_episode, 0.09),
    "push": (push, 0.09),
    "cups": (cups, 0.08),
    "camera": (camera, 0.08),
}
"""Name of a scenario -> (function that draws its scenes, share of all clips). The order decides what a seed draws."""
_CUMULATIVE = dict(zip(SCENARIOS, itertools.accumulate(share for _, share in SCENARIOS.values()), strict=True))


def random_scene(rng: Rng, level: Level = LEVELS["normal"], even: bool = False) -> Scene:
    """Draw a scene of a random scenario.

    Args:
        rng: The clip's random stream.
        level: The difficulty.
        even: Draw every scenario equally often instead of by the shares in SCENARIOS.
    """
    draw = rng.random()
    # rounding may leave the sum of the shares below 1: the last scenario takes the rest
    by_share = next((name for name, upper in _CUMULATIVE.items() if draw < upper), list(SCENARIOS)[-1])
    return generate(rng.choice(list(SCENARIOS)) if even else by_share, rng, level)


def generate(scenario: str, rng: Rng, level: Level) -> Scene:
    """Draw a scene of one scenario."""
    parts = SCENARIOS[scenario][0](rng, level)
    return _with_background(rng, scenario, parts, changes=scenario != "camera" and rng.bernoulli(_BACKGROUND_CHANGES))


def static_scene(rng: Rng, level: Level = LEVELS["normal"]) -> Scene:
    """Draw a scene for an image: no object moves."""
    return _with_background(rng, "image", SceneParts(draw_objects(rng, level, ("still",), (*SHAPES, *LETTERS))), changes=False)


def _with_background(rng: Rng, scenario: str, parts: SceneParts, changes: bool) -> Scene:
    background = rng.choice(tuple(BACKGROUNDS))
    return Scene(
        scenario,
        tuple(parts.objects),
        background,
        rng.choice([name for name in BACKGROUNDS if name != background]) if changes else background,
        rng.choice(tuple(TIME_WORDS)) if changes else 0,
        parts.camera,
        parts.coin_index,
        parts.odd_index,
        parts.floor_dots,
    )
