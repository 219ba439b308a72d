"""What there is in the world and what it looks like: coloured things on a 32 x 32 floor, eight frames long.

A scene is the log of everything that happens; frames, questions, captions and dense labels all follow from it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRAMES = 8
SIDE = 32  # pixels
FPS = 2.0  # a clip lasts four seconds
CELLS = (4, 12, 20, 28)  # the middles of the encoder's patches
SPOTS = range(4, 29, 2)
"""Where things start. Patch middles alone would not do: a place between them would tell from one frame how a thing moves."""
MARGIN = 16  # pixels around the floor, where things are that a moving camera does not see

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
LETTERS = ("T", "L", "H", "X", "U", "E")
POSES = ("down", "out", "up")  # of a figure's arms
FORMS = (*SHAPES, *LETTERS, *POSES, "cup")
"""Everything that a thing can look like in a frame."""

DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
CAMERA = ("left", "right", "forward", "back")
PLACES = ("left", "middle", "right")
WHEN = {1: "early", 2: "early", 3: "midway", 4: "midway", 5: "late", 6: "late"}  # frame of an event -> the word for it

GESTURES = ("raise", "lower", "wave", "flap")
_COIN = (255, 215, 0)
_COIN_FRAMES = 2  # in how many frames the coin is seen before its cup covers it

_BACKGROUND_NAMES, _COLOUR_NAMES = tuple(BACKGROUNDS), tuple(COLOURS)
_COLOUR_RGB = np.array(list(COLOURS.values()), dtype=np.uint8)
_BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Thing:
    """One object and what it does: an entry of the event log."""

    colour: str
    form: str
    """A shape, a letter, `figure` or `cup`."""
    deed: str
    """What it does, one of deeds.DEEDS, stories' own (`roll`, `hit`, `held`, `cup`) or a gesture."""
    direction: str = ""
    """Where it moves; where it moves first when it turns."""
    then: str = ""
    """Where a turning thing moves in the second half, or a patrolling one will go next; the colour that a recoloured one
    ends with."""
    at: int = 0
    """The first frame of its new state (recolour, appear, vanish)."""
    times: int = 0
    """How often it blinks."""
    partner: str = ""
    """The colour of the thing that it hits or that hits it."""
    x: tuple[int, ...] = ()
    y: tuple[int, ...] = ()
    radius: tuple[int, ...] = ()
    visible: tuple[bool, ...] = ()
    poses: tuple[str, ...] = ()
    """Of a figure's arms, a frame."""

    @property
    def name(self) -> str:
        return f"{self.colour} {self.form}"

    def colour_at(self, frame: int) -> str:
        return self.then if self.deed == "recolour" and frame >= self.at else self.colour

    def form_at(self, frame: int) -> str:
        return self.poses[frame] if self.poses else self.form


@dataclass(frozen=True, slots=True)
class Scene:
    story: str
    """Which of stories.STORIES it is."""
    things: tuple[Thing, ...]
    background: str
    background_then: str
    """Equal to `background` where the scene does not change."""
    background_at: int = 0
    camera: str = ""
    """Where the camera goes, one of CAMERA; empty when it rests."""
    coin: int = -1
    """Number of the cup that holds the coin."""
    odd: int = -1
    """Number of the thing that does not do what the others do."""
    stars: tuple[tuple[tuple[int, int], ...], ...] = ()
    """For each frame the places of the dots on the floor that show how the camera moves."""

    def background_in(self, frame: int) -> str:
        return self.background_then if frame >= self.background_at else self.background


def _shapes(radius: int) -> dict[str, NDArray[np.bool_]]:
    """The pixels of every form of FORMS at one size."""
    axis = np.arange(-radius, radius + 1)
    x, y = np.meshgrid(axis, axis)
    third, diagonal = radius // 3, np.abs(np.abs(x) - np.abs(y))
    ends_left, ends_right, top, bottom = x <= -radius + third, x >= radius - third, y <= -radius + third, y >= radius - third
    bar_x, bar_y = np.abs(y) <= third, np.abs(x) <= third
    body, arm = (x == 0) | ((np.abs(x) <= 1) & (y <= -radius + 1)), diagonal == 0
    return {
        "square": np.ones_like(x, dtype=np.bool_),
        "disc": x * x + y * y <= radius * radius + 1,
        "triangle": 2 * np.abs(x) <= y + radius,
        "cross": bar_x | bar_y,
        "T": top | bar_y,
        "L": ends_left | bottom,
        "H": ends_left | ends_right | bar_x,
        "X": diagonal <= max(0, third - 1),
        "U": ends_left | ends_right | bottom,
        "E": ends_left | top | bottom | (y == 0),
        "down": body | (arm & (y >= 0)),
        "out": body | (y == 0),
        "up": body | (arm & (y <= 0)),
        "cup": top | ends_left | ends_right | (np.abs(x) + np.abs(y) <= 1),
    }


MASKS = {(form, radius): mask for radius in range(1, 7) for form, mask in _shapes(radius).items()}


def render(scene: Scene, frames: int = FRAMES) -> NDArray[np.uint8]:
    """The clip as (frames, SIDE, SIDE, 3) RGB bytes."""
    whole = np.empty((frames, SIDE + 2 * MARGIN, SIDE + 2 * MARGIN, 3), dtype=np.uint8)
    for frame in range(frames):
        floor = _BACKGROUND_RGB[_BACKGROUND_NAMES.index(scene.background_in(frame))]
        whole[frame] = floor
        for x, y in scene.stars[frame] if scene.stars else ():
            whole[frame, y + MARGIN, x + MARGIN] = floor + 60
        for number, thing in enumerate(scene.things):
            if thing.visible[frame]:
                radius, rgb = thing.radius[frame], _COLOUR_RGB[_COLOUR_NAMES.index(thing.colour_at(frame))]
                window(whole[frame], thing.x[frame], thing.y[frame], radius)[MASKS[thing.form_at(frame), radius]] = rgb
                if number == scene.coin and frame < _COIN_FRAMES:
                    x, y = thing.x[frame] + MARGIN, thing.y[frame] + MARGIN
                    whole[frame, y - 1 : y + 2, x - 1 : x + 2] = _COIN
    return np.ascontiguousarray(whole[:, MARGIN:-MARGIN, MARGIN:-MARGIN])


def window(plane: NDArray[Any], x: int, y: int, radius: int) -> NDArray[Any]:
    """The part of a plane with margins that the box around a thing covers."""
    x, y = x + MARGIN, y + MARGIN
    return plane[y - radius : y + radius + 1, x - radius : x + radius + 1]
