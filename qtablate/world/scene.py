"""The scene of a procedural clip and its rendering: colored objects on a floor of 32 x 32 pixels, eight frames long.

A scene is the log of everything that happens. Frames, questions, captions and dense labels all follow from it.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Value = TypeVar("Value", bound=np.generic)

FRAMES = 8
"""Frames per clip."""
IMAGE_SIZE = 32
"""Height and width of a frame in pixels."""
FPS = 2.0
"""Frames per second: a clip lasts four seconds."""
PATCH_CENTERS = (4, 12, 20, 28)
"""Pixel coordinates of the centers of the vision encoder's 8 x 8 patches."""
START_POSITIONS = range(4, 29, 2)
"""Pixel coordinates at which objects start. If objects started on patch centers only, a position between two centers would
show in a single frame that the object moves."""
MARGIN = 16
"""Pixels around the visible floor. Objects that a moving camera does not show (yet) stand there."""

COLORS: dict[str, tuple[int, int, int]] = {
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
POSES = ("down", "out", "up")
"""Poses of a figure's arms."""
FORMS = (*SHAPES, *LETTERS, *POSES, "cup")
"""Every shape that an object can have in a frame."""

DIRECTIONS: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
CAMERA = ("left", "right", "forward", "back")
"""Directions in which the camera can move."""
PLACES = ("left", "middle", "right")
"""Names of the three cup positions, from left to right."""
TIME_WORDS = {1: "early", 2: "early", 3: "midway", 4: "midway", 5: "late", 6: "late"}
"""Frame of an event -> the word that questions and captions use for it."""

GESTURES = ("raise", "lower", "wave", "flap")
"""Motions of a figure's arms."""

_COIN_RGB = (255, 215, 0)
_COIN_FRAMES = 2  # the coin is visible in so many frames before its cup covers it
_DOT_BRIGHTNESS = 60  # dots on the floor are brighter than the floor by this much in each channel

_BACKGROUND_NAMES, _COLOR_NAMES = tuple(BACKGROUNDS), tuple(COLORS)
_COLOR_RGB = np.array(list(COLORS.values()), dtype=np.uint8)
_BACKGROUND_RGB = np.array(list(BACKGROUNDS.values()), dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object and its motion: an entry of the event log. All tuples have one entry per frame."""

    color: str
    """Color in the first frame, a key of COLORS."""
    form: str
    """A shape, a letter, `figure` or `cup`."""
    motion: str
    """A key of motions.MOTIONS, a gesture, or a motion of one scenario only: `roll`, `cross`, `hit`, `blocked`, `cup`."""
    direction: str = ""
    """Direction of motion; of an object that turns, the first direction."""
    next_direction: str = ""
    """Direction in the second half of a turn; of `loop` and `shuttle`, the direction after the clip ends."""
    next_color: str = ""
    """Final color of an object that changes its color."""
    event_frame: int = 0
    """First frame of the new state after an object changes color, appears or vanishes; 0 for other motions."""
    blink_count: int = 0
    """Number of times that the object blinks."""
    partner: str = ""
    """Color of the object that this one hits, or that hits this one."""
    x: tuple[int, ...] = ()
    """Column of the center in pixels."""
    y: tuple[int, ...] = ()
    """Row of the center in pixels."""
    radius: tuple[int, ...] = ()
    """Half of the width in pixels: an object is 2 * radius + 1 pixels wide and high."""
    visible: tuple[bool, ...] = ()
    poses: tuple[str, ...] = ()
    """Poses of a figure's arms; empty for all other forms."""

    @property
    def name(self) -> str:
        """The name that questions and captions use, such as `red square`."""
        return f"{self.color} {self.form}"

    def color_at(self, frame: int) -> str:
        """The color in this frame."""
        return self.next_color if self.motion == "recolor" and frame >= self.event_frame else self.color

    def form_at(self, frame: int) -> str:
        """The form in this frame, one of FORMS: of a figure, its pose."""
        return self.poses[frame] if self.poses else self.form


@dataclass(frozen=True, slots=True)
class Scene:
    """The event log of one clip."""

    scenario: str
    """Key of scenarios.SCENARIOS that generated the scene; `image` for a static scene."""
    objects: tuple[SceneObject, ...]
    background: str
    """Color of the floor in the first frame, a key of BACKGROUNDS."""
    final_background: str
    """Color of the floor in the last frame; equal to `background` where it does not change."""
    background_change_frame: int = 0
    """First frame with the final background."""
    camera: str = ""
    """Direction of the camera, one of CAMERA; empty for a camera that does not move."""
    coin_index: int | None = None
    """Index of the object (a cup) that hides the coin; None without a coin."""
    odd_index: int | None = None
    """Index of the object whose motion differs from that of all others; None where there is no such object."""
    floor_dots: tuple[tuple[tuple[int, int], ...], ...] = ()
    """(x, y) of the dots on the floor in each frame. They make the motion of the camera visible."""

    def background_at(self, frame: int) -> str:
        """The color of the floor in this frame."""
        return self.final_background if frame >= self.background_change_frame else self.background


def _shapes(radius: int) -> dict[str, NDArray[np.bool_]]:
    """Masks (2 * radius + 1, 2 * radius + 1) of every form of FORMS at one radius."""
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
"""(form, radius) -> mask (2 * radius + 1, 2 * radius + 1) of the pixels that the form covers."""


def render(scene: Scene, frames: int = FRAMES) -> NDArray[np.uint8]:
    """Render the first frames of a scene: (frames, IMAGE_SIZE, IMAGE_SIZE, 3) RGB bytes."""
    padded = np.empty((frames, IMAGE_SIZE + 2 * MARGIN, IMAGE_SIZE + 2 * MARGIN, 3), dtype=np.uint8)
    for frame in range(frames):
        floor = _BACKGROUND_RGB[_BACKGROUND_NAMES.index(scene.background_at(frame))]
        padded[frame] = floor
        for x, y in scene.floor_dots[frame] if scene.floor_dots else ():
            padded[frame, y + MARGIN, x + MARGIN] = floor + _DOT_BRIGHTNESS
        for number, obj in enumerate(scene.objects):
            if obj.visible[frame]:
                radius, rgb = obj.radius[frame], _COLOR_RGB[_COLOR_NAMES.index(obj.color_at(frame))]
                box_view(padded[frame], obj.x[frame], obj.y[frame], radius)[MASKS[obj.form_at(frame), radius]] = rgb
                if number == scene.coin_index and frame < _COIN_FRAMES:
                    x, y = obj.x[frame] + MARGIN, obj.y[frame] + MARGIN
                    padded[frame, y - 1 : y + 2, x - 1 : x + 2] = _COIN_RGB
    return np.ascontiguousarray(padded[:, MARGIN:-MARGIN, MARGIN:-MARGIN])


def box_view(plane: NDArray[Value], x: int, y: int, radius: int) -> NDArray[Value]:
    """Return a view of the bounding box of an object in an image that includes the margins."""
    x, y = x + MARGIN, y + MARGIN
    return plane[y - radius : y + radius + 1, x - radius : x + radius + 1]
