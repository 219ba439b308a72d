"""What one thing can do by itself: how its place, size and visibility go over the frames of a clip."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qtablate.seeds import Rng
from qtablate.world.scene import DIRECTIONS, FRAMES, OPPOSITE, POSES, SIDE, SPOTS, WHEN, Thing

SPEED = 2  # pixels a frame
RADIUS = 3
SIZES = (2, 5)  # least and most radius
_SWING = (0, 2, 0, -2, 0, 2, 0, -2)
_DIRECTIONS = tuple(DIRECTIONS)


@dataclass(frozen=True, slots=True)
class Track:
    """A deed before it has a place: movements relative to the start."""

    dx: tuple[int, ...] = (0,) * FRAMES
    dy: tuple[int, ...] = (0,) * FRAMES
    radius: tuple[int, ...] = (RADIUS,) * FRAMES
    visible: tuple[bool, ...] = (True,) * FRAMES
    direction: str = ""
    then: str = ""
    at: int = 0
    times: int = 0
    poses: tuple[str, ...] = ()


def _legs(directions: tuple[str, ...], speed: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(dx, dy) of going one step a frame, each in its direction; an empty one rests."""
    x, y, dx, dy = 0, 0, [0], [0]
    for name in directions:
        step = DIRECTIONS.get(name, (0, 0))
        x, y = x + speed * step[0], y + speed * step[1]
        dx.append(x)
        dy.append(y)
    return tuple(dx), tuple(dy)


def _across(rng: Rng, direction: str) -> str:
    return rng.choice([name for name in _DIRECTIONS if name not in (direction, OPPOSITE[direction])])


def _still(rng: Rng) -> Track:
    return Track()


def move(direction: str) -> Track:
    return Track(*_legs((direction,) * (FRAMES - 1), SPEED), direction=direction)


def _move(rng: Rng) -> Track:
    return move(rng.choice(_DIRECTIONS))


def _turn(rng: Rng) -> Track:
    """A whole cell one way, then most of one across."""
    first = rng.choice(_DIRECTIONS)
    then = _across(rng, first)
    return Track(*_legs((first,) * 4 + (then,) * 3, SPEED), direction=first, then=then)


def _loop(rng: Rng) -> Track:
    """Three sides of a square; the fourth, which would close it, comes after the clip."""
    first = rng.choice(_DIRECTIONS)
    second = _across(rng, first)
    sides = (first, first, second, second, OPPOSITE[first], OPPOSITE[first], "")
    return Track(*_legs(sides, 2 * SPEED), direction=first, then=OPPOSITE[second])


def _shuttle(rng: Rng) -> Track:
    """There, back and there again; back comes after the clip."""
    first = rng.choice(_DIRECTIONS)
    back = OPPOSITE[first]
    return Track(*_legs((first, first, back, back, first, first, ""), 2 * SPEED), direction=first, then=back)


def _blink(rng: Rng) -> Track:
    times = 1 + rng.randrange(3)
    gone = {frame + (rng.randrange(2) if times == 1 else 0) for frame in rng.sample((1, 3, 5), times)}
    return Track(visible=tuple(frame not in gone for frame in range(FRAMES)), times=times)


def _grow(rng: Rng) -> Track:
    return Track(radius=tuple(2 + round(2 * frame / (FRAMES - 1)) for frame in range(FRAMES)))


def _shrink(rng: Rng) -> Track:
    return Track(radius=tuple(4 - round(2 * frame / (FRAMES - 1)) for frame in range(FRAMES)))


def _recolour(rng: Rng) -> Track:
    return Track(at=rng.choice(tuple(WHEN)))


def appear(at: int) -> Track:
    return Track(visible=tuple(frame >= at for frame in range(FRAMES)), at=at)


def vanish(at: int) -> Track:
    return Track(visible=tuple(frame < at for frame in range(FRAMES)), at=at)


def gesture(rng: Rng, deed: str) -> Track:
    """Arms that go up or down once, by one pose or by two, or that go to and fro."""
    if deed in ("wave", "flap"):
        ends = rng.shuffled(("out", "up" if deed == "wave" else "down"))
        return Track(poses=tuple(ends[frame % 2] for frame in range(FRAMES)))
    way = POSES if deed == "raise" else POSES[::-1]
    through = rng.choice((way, way[:2], way[1:]))
    first = 1 + rng.randrange(4)
    starts = (0, first, first + 1 + rng.randrange(FRAMES - 2 - first))  # the frame in which each pose begins
    return Track(
        poses=tuple(
            [pose for pose, start in zip(through, starts, strict=False) if start <= frame][-1] for frame in range(FRAMES)
        )
    )


DEEDS: dict[str, Callable[[Rng], Track]] = {
    "still": _still,
    "move": _move,
    "turn": _turn,
    "blink": _blink,
    "recolour": _recolour,
    "grow": _grow,
    "shrink": _shrink,
    "appear": lambda rng: appear(rng.choice(tuple(WHEN))),
    "vanish": lambda rng: vanish(rng.choice(tuple(WHEN))),
    "sway": lambda rng: Track(dx=_SWING),
    "bounce": lambda rng: Track(dy=_SWING),
    "pulse": lambda rng: Track(radius=(3, 4, 3, 2, 3, 4, 3, 2)),
    "loop": _loop,
    "shuttle": _shuttle,
}


def placed(rng: Rng, thing: Thing, track: Track, spots: Sequence[int] = SPOTS, one_size: bool = False) -> Thing:
    """The thing on its track, of any size, from a spot that keeps it on the floor."""
    low, high = min(track.radius), max(track.radius)
    least = SIZES[0] + bool(track.poses)  # arms want room
    larger = 0 if one_size else rng.choice(range(least - low, SIZES[1] - high + 1))
    track = replace(track, radius=tuple(radius + larger for radius in track.radius))
    x = rng.choice([x for x in spots if _inside(x, track.dx, track.radius)])
    y = rng.choice([y for y in spots if _inside(y, track.dy, track.radius)])
    return replace(
        thing,
        direction=track.direction,
        then=thing.then or track.then,
        at=track.at,
        times=track.times,
        x=tuple(x + d for d in track.dx),
        y=tuple(y + d for d in track.dy),
        radius=track.radius,
        visible=track.visible,
        poses=track.poses,
    )


def _inside(start: int, path: tuple[int, ...], radius: tuple[int, ...]) -> bool:
    return all(r <= start + step < SIDE - r for step, r in zip(path, radius, strict=True))


def apart(a: Thing, b: Thing) -> bool:
    """Whether a line of floor is always between two things, seen or not."""
    return all(
        max(abs(ax - bx), abs(ay - by)) > ar + br + 1
        for ax, ay, ar, bx, by, br in zip(a.x, a.y, a.radius, b.x, b.y, b.radius, strict=True)
    )
