"""Drawing the objects of a scene, for all scenarios."""

from collections.abc import Sequence
from dataclasses import dataclass

from qtablate.seeds import Rng
from qtablate.world.levels import Level
from qtablate.world.motions import MOTIONS, Track, appear, never_touch, place_randomly, vanish
from qtablate.world.scene import COLORS, PATCH_CENTERS, SHAPES, START_POSITIONS, TIME_WORDS, SceneObject

COLOR_NAMES = tuple(COLORS)


@dataclass(frozen=True, slots=True)
class SceneParts:
    """The part of a scene that its scenario decides; the fields are those of Scene."""

    objects: Sequence[SceneObject]
    camera: str = ""
    coin_index: int | None = None
    odd_index: int | None = None
    floor_dots: tuple[tuple[tuple[int, int], ...], ...] = ()


def start_positions(level: Level) -> Sequence[int]:
    """Return the pixel coordinates at which objects of this level start."""
    return PATCH_CENTERS if level.aligned else START_POSITIONS


def draw_between(rng: Rng, bounds: tuple[int, int]) -> int:
    """Draw an integer between two bounds, both included."""
    return bounds[0] + rng.randrange(bounds[1] - bounds[0] + 1)


def try_place(rng: Rng, level: Level, objects: list[SceneObject], obj: SceneObject, track: Track, tries: int = 12) -> bool:
    """Append the object to `objects` at a position where it never touches another; return False if none was found."""
    for _ in range(tries):
        placed = place_randomly(rng, obj, track, start_positions(level), one_size=level.aligned)
        if all(never_touch(placed, other) for other in objects):
            objects.append(placed)
            return True
    return False


def draw_objects(rng: Rng, level: Level, motions: Sequence[str], forms: Sequence[str] = SHAPES) -> list[SceneObject]:
    """Draw objects of different colors with one of these motions each. An object that finds no position is left out."""
    wanted, colors = draw_between(rng, level.objects), rng.shuffled(COLOR_NAMES)
    objects: list[SceneObject] = []
    frames = rng.shuffled(tuple(TIME_WORDS))
    for number in range(wanted):
        motion, spare = rng.choice(motions), colors[wanted:]
        if motion == "recolor" and number >= len(spare):
            motion = "still"  # every color belongs to an object already
        track = MOTIONS[motion](rng)
        if motion in ("appear", "vanish"):  # in different frames, so that one event is the first
            track = (appear if motion == "appear" else vanish)(frames[number])
        next_color = spare[number] if motion == "recolor" else ""
        obj = SceneObject(colors[number], rng.choice(forms), motion, next_color=next_color)
        try_place(rng, level, objects, obj, track)
    return objects
