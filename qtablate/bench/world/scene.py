"""The world: short clips of coloured shapes that act on a 32 x 32 floor, and the log of what happened.

A scene is decided by its dice alone; frames, questions and dense labels all follow from the log.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qtablate.seeds import Dice

FRAMES = 8
SIDE = 32  # pixels
FPS = 2.0  # a clip lasts four seconds
CELLS = (4, 12, 20, 28)  # where things start: the middles of the encoder's patches, so that one patch shows a shape whole
SPEED = 2  # pixels a frame

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (225, 35, 35),
    "green": (35, 170, 50),
    "blue": (50, 80, 235),
    "yellow": (240, 225, 50),
    "purple": (150, 50, 190),
    "orange": (245, 140, 25),
    "cyan": (60, 215, 225),
    "white": (245, 245, 245),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "black": (10, 10, 10),
    "gray": (110, 110, 110),
    "navy": (15, 20, 75),
    "brown": (85, 55, 30),
}
SHAPES = ("square", "disc", "triangle", "cross")
DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
WHEN = {1: "early", 2: "early", 3: "midway", 4: "midway", 5: "late", 6: "late"}  # frame of an event -> the word for it

KINDS = ("still", "move", "turn", "blink", "recolour", "grow", "shrink", "appear", "vanish")
THEMES: tuple[tuple[str, ...], ...] = (KINDS, KINDS, ("move", "still", "turn"), ("appear",))

_COLOUR_NAMES, _BACKGROUND_NAMES, _DIRECTION_NAMES = tuple(COLOURS), tuple(BACKGROUNDS), tuple(DIRECTIONS)
_COLOUR_RGB = np.array(list(COLOURS.values()), dtype=np.uint8)
_BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object and what it does: an entry of the event log."""

    colour: str
    shape: str
    kind: str
    """One of KINDS."""
    direction: str = ""
    """Where it moves; for `turn`, where it moves first."""
    then: str = ""
    """`turn`: where it moves in the second half; `recolour`: the colour it ends with."""
    at: int = 0
    """The first frame of its new state (recolour, appear, vanish)."""
    times: int = 0
    """How often it blinks."""
    x: tuple[int, ...] = ()
    y: tuple[int, ...] = ()
    radius: tuple[int, ...] = ()
    visible: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.colour} {self.shape}"

    def colour_at(self, frame: int) -> str:
        return self.then if self.kind == "recolour" and frame >= self.at else self.colour


@dataclass(frozen=True, slots=True)
class Scene:
    things: tuple[Thing, ...]
    background: str
    background_then: str
    """Equal to `background` where the scene does not change."""
    background_at: int

    def background_in(self, frame: int) -> str:
        return self.background_then if frame >= self.background_at else self.background


def simulate(dice: Dice, frames: int = FRAMES) -> Scene:
    """Draw a scene of 2 to 4 things, fewer where one finds no place. One frame gives an image: things that are simply there."""
    theme = dice.pick(THEMES) if frames > 1 else ("still",)
    wanted = 2 + dice.below(3)
    colours = dice.shuffled(_COLOUR_NAMES)
    arrivals = dice.shuffled(tuple(WHEN))
    things: list[Thing] = []
    for number in range(wanted):
        kind = dice.pick(theme)
        for _ in range(12):  # a place that keeps clear of the others; a thing that finds none is left out
            thing = _thing(dice, kind, colours[number], colours[wanted + number], arrivals[number], frames)
            if all(_apart(thing, other) for other in things):
                things.append(thing)
                break
    background = dice.pick(_BACKGROUND_NAMES)
    changes = frames > 1 and dice.chance(0.4)
    then = dice.pick([name for name in _BACKGROUND_NAMES if name != background]) if changes else background
    return Scene(tuple(things), background, then, dice.pick(tuple(WHEN)) if changes else 0)


def _thing(dice: Dice, kind: str, colour: str, other_colour: str, arrival: int, frames: int) -> Thing:
    direction = then = ""
    at = times = 0
    visible = [True] * frames
    radius = [3] * frames
    dx, dy = [0] * frames, [0] * frames
    if kind in ("move", "turn"):
        direction = dice.pick(_DIRECTION_NAMES)
        legs = [direction] * frames
        if kind == "turn":
            across = [name for name in _DIRECTION_NAMES if name not in (direction, OPPOSITE[direction])]
            then = dice.pick(across)
            legs = [direction] * (frames // 2 + 1) + [then] * (frames - frames // 2 - 1)  # a whole cell, then most of one
        for frame in range(1, frames):
            step = DIRECTIONS[legs[frame]]
            dx[frame] = dx[frame - 1] + SPEED * step[0]
            dy[frame] = dy[frame - 1] + SPEED * step[1]
    elif kind == "blink":
        times = 1 + dice.below(3)
        for frame in dice.sample((1, 3, 5), times):
            visible[frame + dice.below(2) if times == 1 else frame] = False
    elif kind == "recolour":
        then, at = other_colour, dice.pick(tuple(WHEN))
    elif kind == "grow":
        radius = [2 + round(3 * frame / (frames - 1)) for frame in range(frames)]
    elif kind == "shrink":
        radius = [5 - round(3 * frame / (frames - 1)) for frame in range(frames)]
    elif kind in ("appear", "vanish"):
        at = arrival
        visible = [(frame >= at) == (kind == "appear") for frame in range(frames)]
    x0 = dice.pick([x for x in CELLS if _inside(x, dx, radius)])
    y0 = dice.pick([y for y in CELLS if _inside(y, dy, radius)])
    return Thing(
        colour, dice.pick(SHAPES), kind, direction, then, at, times,
        tuple(x0 + d for d in dx), tuple(y0 + d for d in dy), tuple(radius), tuple(visible),
    )  # fmt: skip


def _inside(start: int, path: list[int], radius: list[int]) -> bool:
    """Whether a thing that starts at this coordinate stays on the floor."""
    return all(r <= start + step < SIDE - r for step, r in zip(path, radius, strict=True))


def _apart(a: Thing, b: Thing) -> bool:
    """Whether two things never touch, seen or not."""
    return all(
        max(abs(ax - bx), abs(ay - by)) > ar + br
        for ax, ay, ar, bx, by, br in zip(a.x, a.y, a.radius, b.x, b.y, b.radius, strict=True)
    )


def _mask(shape: str, radius: int) -> NDArray[np.bool_]:
    axis = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(axis, axis)
    inside: dict[str, NDArray[np.bool_]] = {
        "square": np.ones_like(x, dtype=np.bool_),
        "disc": x * x + y * y <= radius * radius + 1,
        "triangle": 2 * np.abs(x) <= y + radius,
        "cross": (np.abs(x) <= radius // 3) | (np.abs(y) <= radius // 3),
    }
    return inside[shape]


_MASKS = {(shape, radius): _mask(shape, radius) for shape in SHAPES for radius in range(1, 7)}


def render(scene: Scene, frames: int = FRAMES) -> NDArray[np.uint8]:
    """The clip as (frames, SIDE, SIDE, 3) RGB bytes."""
    out = np.empty((frames, SIDE, SIDE, 3), dtype=np.uint8)
    for frame in range(frames):
        out[frame] = _BACKGROUND_RGB[_BACKGROUND_NAMES.index(scene.background_in(frame))]
        for thing in scene.things:
            if thing.visible[frame]:
                rgb = _COLOUR_RGB[_COLOUR_NAMES.index(thing.colour_at(frame))]
                _window(out[frame], thing, frame)[_MASKS[thing.shape, thing.radius[frame]]] = rgb
    return out


def _window(plane: NDArray[np.uint8], thing: Thing, frame: int) -> NDArray[np.uint8]:
    x, y, r = thing.x[frame], thing.y[frame], thing.radius[frame]
    return plane[y - r : y + r + 1, x - r : x + r + 1]
