"""The scenario `camera`: the camera moves over objects that rest."""

from dataclasses import replace

from qtablate.seeds import Rng
from qtablate.world.levels import Level
from qtablate.world.motions import SPEED, never_touch
from qtablate.world.placement import COLOR_NAMES, SceneParts, draw_between
from qtablate.world.scene import CAMERA, DIRECTIONS, FRAMES, IMAGE_SIZE, MARGIN, SHAPES, SceneObject

_DOT_COUNTS = (8, 16, 32)  # dots on a floor of which the camera shows a quarter
_ZOOM_PER_FRAME = 0.1


def camera(rng: Rng, level: Level) -> SceneParts:
    """Only the camera moves: objects and the dots on the floor shift, or spread from the center of the frame."""
    direction = rng.choice(CAMERA)
    # the number of dots varies, so that it does not tell how far the camera has moved
    dots = [
        (rng.randrange(2 * IMAGE_SIZE) - MARGIN, rng.randrange(2 * IMAGE_SIZE) - MARGIN) for _ in range(rng.choice(_DOT_COUNTS))
    ]
    objects: list[SceneObject] = []
    wanted = draw_between(rng, level.objects)
    colors = rng.shuffled(COLOR_NAMES)
    while len(objects) < wanted:
        x, y = (rng.randrange(2 * IMAGE_SIZE - 2) - MARGIN + 1 for _ in range(2))  # some come into view, some leave it
        radius = 2 + rng.randrange(4) if direction in DIRECTIONS else rng.choice((2, 3))
        obj = _seen_by_camera(direction, SceneObject(colors[len(objects)], rng.choice(SHAPES), "still"), x, y, radius)
        if sum(obj.visible) >= FRAMES // 2 and all(never_touch(obj, other) for other in objects):
            objects.append(obj)
    if any(all(_unchanged(obj, frame) for obj in objects) for frame in range(1, FRAMES)):
        return camera(rng, level)  # some frame would show no object that moves: draw another scene
    floor_dots = []
    for frame in range(FRAMES):
        places = (_project(direction, frame, x, y) for x, y in dots)
        floor_dots.append(tuple((x, y) for x, y in places if min(x, y) >= -MARGIN and max(x, y) < IMAGE_SIZE + MARGIN))
    return SceneParts(objects, camera=direction, floor_dots=tuple(floor_dots))


def _seen_by_camera(direction: str, obj: SceneObject, x: int, y: int, radius: int) -> SceneObject:
    """Return the object at rest at (x, y) as the camera sees it. It is visible while any of its bounding box is in view."""
    path = [_project(direction, frame, x, y) for frame in range(FRAMES)]
    radii = tuple(round(radius * _zoom(direction, frame)) for frame in range(FRAMES))
    visible = tuple(-r <= min(place) and max(place) < IMAGE_SIZE + r for place, r in zip(path, radii, strict=True))
    return replace(obj, x=tuple(x for x, _ in path), y=tuple(y for _, y in path), radius=radii, visible=visible)


def _unchanged(obj: SceneObject, frame: int) -> bool:
    """Whether an object is out of view in this frame or the one before, or has not moved between them."""
    in_view = obj.visible[frame - 1] and obj.visible[frame]
    return not in_view or (obj.x[frame - 1], obj.y[frame - 1]) == (obj.x[frame], obj.y[frame])


def _zoom(direction: str, frame: int) -> float:
    if direction not in ("forward", "back"):
        return 1.0
    return 1 + _ZOOM_PER_FRAME * (frame if direction == "forward" else FRAMES - 1 - frame)


def _project(direction: str, frame: int, x: int, y: int) -> tuple[int, int]:
    """Return the pixel in which the camera sees the point (x, y) of the floor."""
    if direction in DIRECTIONS:
        return x - SPEED * frame * DIRECTIONS[direction][0], y
    half, zoom = IMAGE_SIZE // 2, _zoom(direction, frame)
    return round(half + (x - half) * zoom), round(half + (y - half) * zoom)
