"""Dense labels of a scene, one set per patch: the targets on which nano's vision encoder is pretrained.

Features keep only what their labels ask for, so the labels cover every fact that a question may need.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qtablate.world.motions import MOTIONS
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLORS,
    DIRECTIONS,
    FORMS,
    FRAMES,
    GESTURES,
    IMAGE_SIZE,
    MARGIN,
    MASKS,
    Scene,
    SceneObject,
    box_view,
)

IGNORE = -100
"""Label of patches to which a classification does not apply; torch's cross-entropy ignores it by default."""
ALL_MOTIONS = (*MOTIONS, *GESTURES, "roll", "cross", "hit", "blocked", "cup")
"""Every motion of the world; the position is the class number."""

_COLORS, _DIRECTIONS, _BACKGROUNDS = tuple(COLORS), tuple(DIRECTIONS), tuple(BACKGROUNDS)


class ObjectLabel(NamedTuple):
    """A classification of patches that show an object."""

    classes: int
    """Number of classes."""
    value: Callable[[Scene, int, SceneObject, int], int]
    """(scene, index of the object, object, frame) -> class, or IGNORE where it does not apply."""


def _index(names: tuple[str, ...], value: str) -> int:
    return names.index(value) if value in names else IGNORE


# The names below are those of the pretraining's classification heads. A head's initial values depend on its name: nano can be
# reproduced only while the names stay.
OBJECT_LABELS = {
    "colour": ObjectLabel(len(COLORS), lambda scene, n, obj, frame: _index(_COLORS, obj.color_at(frame))),
    "first_colour": ObjectLabel(len(COLORS), lambda scene, n, obj, frame: _index(_COLORS, obj.color)),
    "form": ObjectLabel(len(FORMS), lambda scene, n, obj, frame: _index(FORMS, obj.form_at(frame))),
    "deed": ObjectLabel(len(ALL_MOTIONS), lambda scene, n, obj, frame: _index(ALL_MOTIONS, obj.motion)),
    "direction": ObjectLabel(len(DIRECTIONS), lambda scene, n, obj, frame: _index(_DIRECTIONS, obj.direction)),
    "then_direction": ObjectLabel(len(DIRECTIONS), lambda scene, n, obj, frame: _index(_DIRECTIONS, obj.next_direction)),
    "then_colour": ObjectLabel(len(COLORS), lambda scene, n, obj, frame: _index(_COLORS, obj.next_color)),
    "at": ObjectLabel(FRAMES, lambda scene, n, obj, frame: obj.event_frame or IGNORE),
    "times": ObjectLabel(4, lambda scene, n, obj, frame: obj.blink_count or IGNORE),
    "partner": ObjectLabel(len(COLORS), lambda scene, n, obj, frame: _index(_COLORS, obj.partner)),
    "odd": ObjectLabel(2, lambda scene, n, obj, frame: IGNORE if scene.odd_index is None else int(n == scene.odd_index)),
    "origin": ObjectLabel(3, lambda scene, n, obj, frame: n if obj.form == "cup" else IGNORE),
    "coin": ObjectLabel(2, lambda scene, n, obj, frame: int(n == scene.coin_index) if obj.form == "cup" else IGNORE),
}
"""Classifications of patches that show an object."""
PATCH_LABELS = {
    "thing": 2,
    "background": len(BACKGROUNDS),
    "background_first": len(BACKGROUNDS),
    "background_last": len(BACKGROUNDS),
    "camera": len(CAMERA) + 1,
    "frame": FRAMES,
    "place": 16,
}
"""Classifications of every patch: name -> number of classes. `thing` is whether the patch shows an object."""
CLASSES: dict[str, int] = {name: label.classes for name, label in OBJECT_LABELS.items()} | PATCH_LABELS
"""Name -> number of classes of all classifications, in the order of the columns of `dense_labels`."""
_MIN_VISIBLE_SHARE = 0.4
"""A patch that shows a smaller share of an object's area has no object labels, unless no patch shows more of it."""


def dense_labels(scene: Scene, frames: int = FRAMES, patch: int = 8) -> NDArray[np.int64]:
    """Return the labels of the first frames of a scene.

    A patch with pixels of two objects is labeled with the object of which it shows more. A patch that shows a small part of an
    object, or an object of which half is out of view, has no object labels.

    Args:
        scene: The scene.
        frames: Number of frames.
        patch: Height and width of a patch in pixels.

    Returns:
        (frames * (IMAGE_SIZE / patch)^2, len(CLASSES)) class numbers, IGNORE where a classification does not apply.
    """
    grid = IMAGE_SIZE // patch
    column = {name: number for number, name in enumerate(CLASSES)}
    out = _background_labels(scene, frames, grid)
    object_columns = len(OBJECT_LABELS)  # they come first
    most_pixels = np.zeros((frames, grid, grid), dtype=np.int64)  # of one object in each patch
    for number, obj in enumerate(scene.objects):
        values: dict[tuple[str, str], list[int]] = {}
        for frame in range(frames):
            if not obj.visible[frame]:
                continue
            form, r = obj.form_at(frame), obj.radius[frame]
            pixels = _covered(form, r, obj.x[frame], obj.y[frame], patch)
            owned = pixels > most_pixels[frame]
            most_pixels[frame][owned] = pixels[owned]
            area = MASKS[form, r].sum()
            labeled = owned & (pixels >= min(_MIN_VISIBLE_SHARE * area, pixels.max())) & (2 * pixels.sum() > area)
            out[frame, owned, :object_columns] = IGNORE
            out[frame, owned, column["thing"]] = IGNORE
            appearance = (obj.color_at(frame), form)  # the labels of an object depend on the frame through these only
            if appearance not in values:
                values[appearance] = [label.value(scene, number, obj, frame) for label in OBJECT_LABELS.values()]
            out[frame, labeled, :object_columns] = values[appearance]
            out[frame, labeled, column["thing"]] = 1
    return out.reshape(frames * grid * grid, len(CLASSES))


def _background_labels(scene: Scene, frames: int, grid: int) -> NDArray[np.int64]:
    """Labels (frames, grid, grid, len(CLASSES)) of a scene without its objects."""
    column = {name: number for number, name in enumerate(CLASSES)}
    out = np.full((frames, grid, grid, len(CLASSES)), IGNORE, dtype=np.int64)
    out[..., column["thing"]] = 0
    out[..., column["background_first"]] = _BACKGROUNDS.index(scene.background)
    out[..., column["background_last"]] = _BACKGROUNDS.index(scene.final_background)
    out[..., column["camera"]] = CAMERA.index(scene.camera) if scene.camera else len(CAMERA)
    out[..., column["place"]] = np.arange(grid * grid).reshape(grid, grid)
    for frame in range(frames):
        out[frame, ..., column["background"]] = _BACKGROUNDS.index(scene.background_at(frame))
        out[frame, ..., column["frame"]] = frame
    return out


@cache
def _covered(form: str, radius: int, x: int, y: int, patch: int) -> NDArray[np.int64]:
    """Number of pixels of an object in each patch, (rows, columns) of patches."""
    plane = np.zeros((IMAGE_SIZE + 2 * MARGIN, IMAGE_SIZE + 2 * MARGIN), dtype=np.bool_)
    box_view(plane, x, y, radius)[MASKS[form, radius]] = True
    grid = IMAGE_SIZE // patch
    covered: NDArray[np.int64] = plane[MARGIN:-MARGIN, MARGIN:-MARGIN].reshape(grid, patch, grid, patch).sum((1, 3))
    return covered
