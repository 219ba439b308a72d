"""Motions of a single object: its position, size and visibility over the frames of a clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from qtablate.seeds import Rng
from qtablate.world.scene import DIRECTIONS, FRAMES, IMAGE_SIZE, OPPOSITE, POSES, START_POSITIONS, TIME_WORDS, SceneObject

SPEED = 2
"""Pixels per frame of an object that moves straight on, and of the camera."""
RADIUS = 3
"""Radius in pixels of an object before its size is drawn."""
SIZES = (2, 5)
"""Smallest and largest radius in pixels."""
_SWING = (0, 2, 0, -2, 0, 2, 0, -2)  # pixels from the start
_DIRECTIONS = tuple(DIRECTIONS)


@dataclass(frozen=True, slots=True)
class Track:
    """A motion relative to a start position that is drawn later. All tuples but `poses` have one entry per frame."""

    dx: tuple[int, ...] = (0,) * FRAMES
    """Columns from the start, in pixels."""
    dy: tuple[int, ...] = (0,) * FRAMES
    """Rows from the start, in pixels."""
    radius: tuple[int, ...] = (RADIUS,) * FRAMES
    visible: tuple[bool, ...] = (True,) * FRAMES
    direction: str = ""
    next_direction: str = ""
    event_frame: int = 0
    blink_count: int = 0
    poses: tuple[str, ...] = ()
    """One entry per frame for a figure, else empty."""


def _offsets(directions: tuple[str, ...], speed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (dx, dy) over the frames of a path with one direction per step; an empty direction rests."""
    x, y, dx, dy = 0, 0, [0], [0]
    for name in directions:
        step = DIRECTIONS.get(name, (0, 0))
        x, y = x + speed * step[0], y + speed * step[1]
        dx.append(x)
        dy.append(y)
    return tuple(dx), tuple(dy)


def _perpendicular(rng: Rng, direction: str) -> str:
    return rng.choice([name for name in _DIRECTIONS if name not in (direction, OPPOSITE[direction])])


def _still(rng: Rng) -> Track:
    return Track()


def move(direction: str) -> Track:
    """Move in one direction through the whole clip."""
    return Track(*_offsets((direction,) * (FRAMES - 1), SPEED), direction=direction)


def _move(rng: Rng) -> Track:
    return move(rng.choice(_DIRECTIONS))


def _turn(rng: Rng) -> Track:
    """Four steps in one direction, then three in a perpendicular one."""
    first = rng.choice(_DIRECTIONS)
    second = _perpendicular(rng, first)
    return Track(*_offsets((first,) * 4 + (second,) * 3, SPEED), direction=first, next_direction=second)


def _loop(rng: Rng) -> Track:
    """Three sides of a square; the fourth side, which closes it, would follow after the clip."""
    first = rng.choice(_DIRECTIONS)
    second = _perpendicular(rng, first)
    sides = (first, first, second, second, OPPOSITE[first], OPPOSITE[first], "")
    return Track(*_offsets(sides, 2 * SPEED), direction=first, next_direction=OPPOSITE[second])


def _shuttle(rng: Rng) -> Track:
    """There, back and there again; the way back would follow after the clip."""
    first = rng.choice(_DIRECTIONS)
    back = OPPOSITE[first]
    path = (first, first, back, back, first, first, "")
    return Track(*_offsets(path, 2 * SPEED), direction=first, next_direction=back)


def _blink(rng: Rng) -> Track:
    count = 1 + rng.randrange(3)
    hidden = {frame + (rng.randrange(2) if count == 1 else 0) for frame in rng.sample((1, 3, 5), count)}
    return Track(visible=tuple(frame not in hidden for frame in range(FRAMES)), blink_count=count)


def _grow(rng: Rng) -> Track:
    return Track(radius=tuple(2 + round(2 * frame / (FRAMES - 1)) for frame in range(FRAMES)))


def _shrink(rng: Rng) -> Track:
    return Track(radius=tuple(4 - round(2 * frame / (FRAMES - 1)) for frame in range(FRAMES)))


def _recolor(rng: Rng) -> Track:
    return Track(event_frame=rng.choice(tuple(TIME_WORDS)))


def appear(frame: int) -> Track:
    """Be visible from this frame on."""
    return Track(visible=tuple(number >= frame for number in range(FRAMES)), event_frame=frame)


def vanish(frame: int) -> Track:
    """Be visible before this frame only."""
    return Track(visible=tuple(number < frame for number in range(FRAMES)), event_frame=frame)


def gesture(rng: Rng, motion: str) -> Track:
    """Draw a motion of a figure's arms: raise or lower them once, by one pose or two, or alternate between two poses."""
    if motion in ("wave", "flap"):
        ends = rng.shuffled(("out", "up" if motion == "wave" else "down"))
        return Track(poses=tuple(ends[frame % 2] for frame in range(FRAMES)))
    order = POSES if motion == "raise" else POSES[::-1]
    sequence = rng.choice((order, order[:2], order[1:]))
    first = 1 + rng.randrange(4)
    starts = (0, first, first + 1 + rng.randrange(FRAMES - 2 - first))  # the frame in which each pose begins
    return Track(
        poses=tuple(
            [pose for pose, start in zip(sequence, starts, strict=False) if start <= frame][-1] for frame in range(FRAMES)
        )
    )


MOTIONS: dict[str, Callable[[Rng], Track]] = {
    "still": _still,
    "move": _move,
    "turn": _turn,
    "blink": _blink,
    "recolor": _recolor,
    "grow": _grow,
    "shrink": _shrink,
    "appear": lambda rng: appear(rng.choice(tuple(TIME_WORDS))),
    "vanish": lambda rng: vanish(rng.choice(tuple(TIME_WORDS))),
    "sway": lambda rng: Track(dx=_SWING),
    "bounce": lambda rng: Track(dy=_SWING),
    "pulse": lambda rng: Track(radius=(3, 4, 3, 2, 3, 4, 3, 2)),
    "loop": _loop,
    "shuttle": _shuttle,
}
"""Name of a motion -> function that draws it. The order decides what a seed draws."""


def place_randomly(
    rng: Rng, obj: SceneObject, track: Track, positions: Sequence[int] = START_POSITIONS, one_size: bool = False
) -> SceneObject:
    """Draw a size and a start from which the whole track stays on the floor, and return the object on its track.

    Args:
        rng: The scene's random stream.
        obj: The object before it has a position.
        track: Its motion.
        positions: Pixel coordinates at which it may start.
        one_size: Keep the radius of the track instead of drawing one.
    """
    smallest, largest = min(track.radius), max(track.radius)
    least = SIZES[0] + bool(track.poses)  # arms are not visible at the smallest radius
    larger = 0 if one_size else rng.choice(range(least - smallest, SIZES[1] - largest + 1))
    radius = tuple(one + larger for one in track.radius)
    x = rng.choice(_starts_inside(positions, track.dx, radius))
    y = rng.choice(_starts_inside(positions, track.dy, radius))
    return replace(
        obj,
        direction=track.direction,
        next_direction=track.next_direction,
        event_frame=track.event_frame,
        blink_count=track.blink_count,
        x=tuple(x + d for d in track.dx),
        y=tuple(y + d for d in track.dy),
        radius=radius,
        visible=track.visible,
        poses=track.poses,
    )


@cache
def _starts_inside(positions: Sequence[int], path: tuple[int, ...], radius: tuple[int, ...]) -> Sequence[int]:
    """Return the positions from which a path of this radius in every frame stays inside the image."""
    first = max(r - step for step, r in zip(path, radius, strict=True))
    end = min(IMAGE_SIZE - r - step for step, r in zip(path, radius, strict=True))
    return tuple(start for start in positions if first <= start < end)


def never_touch(a: SceneObject, b: SceneObject) -> bool:
    """Whether at least one pixel of floor lies between two objects in every frame, visible or not."""
    for ax, ay, ar, bx, by, br in zip(a.x, a.y, a.radius, b.x, b.y, b.radius, strict=True):
        apart = ar + br + 1
        if -apart <= ax - bx <= apart and -apart <= ay - by <= apart:
            return False
    return True
