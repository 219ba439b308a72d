"""Dense labels of a scene, one set a patch: what the vision encoder of nano is pretrained to tell apart.

Features keep only what their labels ask for, so every fact that a question may need is here.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

from qtablate.world.motions import DEEDS
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLOURS,
    DIRECTIONS,
    FORMS,
    FRAMES,
    GESTURES,
    MARGIN,
    MASKS,
    SIDE,
    Scene,
    Thing,
    window,
)

IGNORE = -100
ALL_DEEDS = (*DEEDS, *GESTURES, "roll", "cross", "hit", "held", "cup")

Fact = Callable[[Scene, int, Thing, int], int]
"""(scene, number of the thing, thing, frame) -> class, or IGNORE where it does not apply."""


def _index(names: tuple[str, ...], value: str) -> int:
    return names.index(value) if value in names else IGNORE


_COLOURS, _DIRECTIONS, _BACKGROUNDS = tuple(COLOURS), tuple(DIRECTIONS), tuple(BACKGROUNDS)
OF_THINGS: dict[str, tuple[int, Fact]] = {
    "colour": (len(COLOURS), lambda scene, n, thing, frame: _index(_COLOURS, thing.colour_at(frame))),
    "first_colour": (len(COLOURS), lambda scene, n, thing, frame: _index(_COLOURS, thing.colour)),
    "form": (len(FORMS), lambda scene, n, thing, frame: _index(FORMS, thing.form_at(frame))),
    "deed": (len(ALL_DEEDS), lambda scene, n, thing, frame: _index(ALL_DEEDS, thing.deed)),
    "direction": (len(DIRECTIONS), lambda scene, n, thing, frame: _index(_DIRECTIONS, thing.direction)),
    "then_direction": (len(DIRECTIONS), lambda scene, n, thing, frame: _index(_DIRECTIONS, thing.then)),
    "then_colour": (len(COLOURS), lambda scene, n, thing, frame: _index(_COLOURS, thing.then)),
    "at": (FRAMES, lambda scene, n, thing, frame: thing.at or IGNORE),
    "times": (4, lambda scene, n, thing, frame: thing.times or IGNORE),
    "partner": (len(COLOURS), lambda scene, n, thing, frame: _index(_COLOURS, thing.partner)),
    "odd": (2, lambda scene, n, thing, frame: int(n == scene.odd) if scene.odd >= 0 else IGNORE),
    "origin": (3, lambda scene, n, thing, frame: n if thing.form == "cup" else IGNORE),
    "coin": (2, lambda scene, n, thing, frame: int(n == scene.coin) if thing.form == "cup" else IGNORE),
}
"""Labels of a patch that shows a thing: how many classes, and which one."""
OF_ALL = {
    "thing": 2,
    "background": len(BACKGROUNDS),
    "background_first": len(BACKGROUNDS),
    "background_last": len(BACKGROUNDS),
    "camera": len(CAMERA) + 1,
    "frame": FRAMES,
    "place": 16,
}
"""Labels of every patch."""
CLASSES: dict[str, int] = {name: classes for name, (classes, _) in OF_THINGS.items()} | OF_ALL
_LEAST_SHARE = 0.4
"""Of a thing's area: a patch that shows less of it is not asked what it shows, nor is any where half of it is out of view."""


def dense_labels(scene: Scene, frames: int = FRAMES, patch: int = 8) -> NDArray[np.int64]:
    """Labels as (frames * (SIDE / patch)^2, len(CLASSES)), IGNORE where a label does not apply."""
    grid = SIDE // patch
    column = {name: number for number, name in enumerate(CLASSES)}
    out = np.full((frames, grid, grid, len(CLASSES)), IGNORE, dtype=np.int64)
    out[..., column["thing"]] = 0
    out[..., column["background_first"]] = _BACKGROUNDS.index(scene.background)
    out[..., column["background_last"]] = _BACKGROUNDS.index(scene.background_then)
    out[..., column["camera"]] = CAMERA.index(scene.camera) if scene.camera else len(CAMERA)
    out[..., column["place"]] = np.arange(grid * grid).reshape(grid, grid)
    for frame in range(frames):
        out[frame, ..., column["background"]] = _BACKGROUNDS.index(scene.background_in(frame))
        out[frame, ..., column["frame"]] = frame
    of_things = len(OF_THINGS)  # their columns come first
    most = np.zeros((frames, grid, grid), dtype=np.int64)
    for number, thing in enumerate(scene.things):
        facts: dict[tuple[str, str], list[int]] = {}
        for frame in range(frames):
            if not thing.visible[frame]:
                continue
            form, r = thing.form_at(frame), thing.radius[frame]
            pixels = _covered(form, r, thing.x[frame], thing.y[frame], patch)
            mine = pixels > most[frame]
            most[frame][mine] = pixels[mine]
            area = MASKS[form, r].sum()
            sure = mine & (pixels >= min(_LEAST_SHARE * area, pixels.max())) & (2 * pixels.sum() > area)
            out[frame, mine, :of_things] = IGNORE
            out[frame, mine, column["thing"]] = IGNORE
            look = (thing.colour_at(frame), form)  # all that changes from frame to frame
            if look not in facts:
                facts[look] = [fact(scene, number, thing, frame) for _, fact in OF_THINGS.values()]
            out[frame, sure, :of_things] = facts[look]
            out[frame, sure, column["thing"]] = 1
    return out.reshape(frames * grid * grid, len(CLASSES))


@cache
def _covered(form: str, radius: int, x: int, y: int, patch: int) -> NDArray[np.int64]:
    """How many pixels of a thing each patch shows, as (rows, columns) of patches."""
    plane = np.zeros((SIDE + 2 * MARGIN, SIDE + 2 * MARGIN), dtype=np.bool_)
    window(plane, x, y, radius)[MASKS[form, radius]] = True
    grid = SIDE // patch
    covered: NDArray[np.int64] = plane[MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(grid, patch, grid, patch).sum((1, 3))
    return covered
