"""Dense labels of a scene, one set a patch: what the vision encoder of nano is pretrained to tell apart.

Features keep only what their labels ask for, so every fact that a question may need is here.
"""

import numpy as np
from numpy.typing import NDArray

from qtablate.bench.world.scene import BACKGROUNDS, COLOURS, DIRECTIONS, FRAMES, KINDS, SHAPES, SIDE, Scene, Thing

IGNORE = -100
CLASSES: dict[str, int] = {
    "colour": len(COLOURS),
    "shape": len(SHAPES),
    "kind": len(KINDS) + 1,  # the last class: no thing in this patch
    "direction": len(DIRECTIONS),
    "then_direction": len(DIRECTIONS),
    "then_colour": len(COLOURS),
    "at": FRAMES,
    "times": 4,
    "background": len(BACKGROUNDS),
    "background_first": len(BACKGROUNDS),
    "background_last": len(BACKGROUNDS),
    "frame": FRAMES,
    "place": 16,
}
_LEAST_SHARE = 0.4  # of a thing's area: a patch that shows less of it is not asked what it shows


def dense_labels(scene: Scene, frames: int = FRAMES, patch: int = 8) -> NDArray[np.int64]:
    """Labels as (frames * (SIDE / patch)^2, len(CLASSES)), IGNORE where a label does not apply."""
    grid = SIDE // patch
    colours, shapes, backgrounds, directions = map(list, (COLOURS, SHAPES, BACKGROUNDS, DIRECTIONS))
    names = list(CLASSES)
    out = np.full((frames, grid, grid, len(names)), IGNORE, dtype=np.int64)
    out[..., names.index("kind")] = len(KINDS)
    out[..., names.index("background_first")] = backgrounds.index(scene.background)
    out[..., names.index("background_last")] = backgrounds.index(scene.background_then)
    out[..., names.index("place")] = np.arange(grid * grid).reshape(grid, grid)
    for frame in range(frames):
        out[frame, ..., names.index("background")] = backgrounds.index(scene.background_in(frame))
        out[frame, ..., names.index("frame")] = frame

    def facts(thing: Thing, frame: int) -> dict[str, int]:
        return {
            "colour": colours.index(thing.colour_at(frame)),
            "shape": shapes.index(thing.shape),
            "kind": KINDS.index(thing.kind),
            "direction": directions.index(thing.direction) if thing.direction else IGNORE,
            "then_direction": directions.index(thing.then) if thing.kind == "turn" else IGNORE,
            "then_colour": colours.index(thing.then) if thing.kind == "recolour" else IGNORE,
            "at": thing.at if thing.at else IGNORE,
            "times": thing.times if thing.times else IGNORE,
        }

    most = np.zeros((frames, grid, grid), dtype=np.int64)
    for thing in scene.things:
        for frame in range(frames):
            if not thing.visible[frame]:
                continue
            area = np.zeros((SIDE, SIDE), dtype=np.int64)
            x, y, r = thing.x[frame], thing.y[frame], thing.radius[frame]
            area[y - r : y + r + 1, x - r : x + r + 1] = 1
            pixels = area.reshape(grid, patch, grid, patch).sum(axis=(1, 3))
            mine = pixels > most[frame]
            most[frame][mine] = pixels[mine]
            sure = mine & (pixels >= min(_LEAST_SHARE * area.sum(), pixels.max()))
            for name, value in facts(thing, frame).items():
                out[frame, ..., names.index(name)][mine] = IGNORE
                out[frame, ..., names.index(name)][sure] = value
    return out.reshape(frames * grid * grid, len(names))
