"""Whole scenes: each story sets up what one or several tasks ask about. A new story is one function in STORIES."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from qtablate.seeds import Rng
from qtablate.world.motions import DEEDS, RADIUS, SPEED, Track, apart, appear, gesture, move, placed, vanish
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    CELLS,
    COLOURS,
    DIRECTIONS,
    FRAMES,
    GESTURES,
    LETTERS,
    MARGIN,
    SHAPES,
    SIDE,
    SPOTS,
    WHEN,
    Scene,
    Thing,
)

_COLOURS, _BACKGROUNDS, _DIRECTIONS = tuple(COLOURS), tuple(BACKGROUNDS), tuple(DIRECTIONS)
_DOTS = (8, 16, 32)  # how many there may be on a floor that the camera shows a quarter of
_CHANGES = 0.4  # share of scenes whose background changes


@dataclass(frozen=True, slots=True)
class Level:
    """How hard the world is."""

    things: tuple[int, int]
    """Least and most things in a scene that is not of a fixed cast."""
    swaps: tuple[int, int]
    """Of the cups that hide a coin."""
    crowd: int
    """Most things among which one is odd."""
    aligned: bool = False
    """Whether things start on the middles of the encoder's patches, all of one size."""


LEVELS = {
    "easy": Level((2, 3), (1, 1), 3),
    "normal": Level((2, 4), (1, 2), 4),
    "hard": Level((3, 5), (2, 2), 5),
}
PRIMER = replace(LEVELS["normal"], aligned=True)
"""What the vision encoder learns first: one frame often tells how a thing moves, so no benchmark is made of it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What a story adds to a bare scene."""

    things: Sequence[Thing]
    camera: str = ""
    coin: int = -1
    odd: int = -1
    stars: tuple[tuple[tuple[int, int], ...], ...] = ()


def _try_place(rng: Rng, level: Level, things: list[Thing], thing: Thing, track: Track, tries: int = 12) -> bool:
    """Find the thing a place that keeps clear of the others; a thing that finds none is left out."""
    for _ in range(tries):
        found = placed(rng, thing, track, CELLS if level.aligned else SPOTS, one_size=level.aligned)
        if all(apart(found, other) for other in things):
            things.append(found)
            return True
    return False


def _between(rng: Rng, bounds: tuple[int, int]) -> int:
    return bounds[0] + rng.randrange(bounds[1] - bounds[0] + 1)


def _cast(rng: Rng, level: Level, deeds: Sequence[str], forms: Sequence[str] = SHAPES) -> list[Thing]:
    """Things of different colours that each do one of the deeds."""
    wanted, colours = _between(rng, level.things), rng.shuffled(_COLOURS)
    things: list[Thing] = []
    times = rng.shuffled(tuple(WHEN))
    for number in range(wanted):
        deed, spare = rng.choice(deeds), colours[wanted:]
        if deed == "recolour" and number >= len(spare):
            deed = "still"  # no color is left that is nobody's
        track = DEEDS[deed](rng)
        if deed in ("appear", "vanish"):  # at different times, so that one is first
            track = (appear if deed == "appear" else vanish)(times[number])
        then = spare[number] if deed == "recolour" else ""
        _try_place(rng, level, things, Thing(colours[number], rng.choice(forms), deed, then=then), track)
    return things


def _medley(rng: Rng, level: Level) -> Parts:
    return Parts(_cast(rng, level, tuple(name for name in DEEDS if name not in ("loop", "shuttle"))))


def _traffic(rng: Rng, level: Level) -> Parts:
    return Parts(_cast(rng, level, ("move", "still", "turn")))


def _fidgets(rng: Rng, level: Level) -> Parts:
    return Parts(_cast(rng, level, ("sway", "bounce", "pulse", "blink", "grow", "shrink")))


def _letters(rng: Rng, level: Level) -> Parts:
    return Parts(_cast(rng, replace(level, things=(3, max(3, level.things[1]))), ("appear",), LETTERS))


def _patrol(rng: Rng, level: Level) -> Parts:
    return Parts(_cast(rng, level, ("loop", "shuttle")))


def _figures(rng: Rng, level: Level) -> Parts:
    things: list[Thing] = []
    for colour in rng.shuffled(_COLOURS)[: _between(rng, level.things)]:
        deed = rng.choice(GESTURES)
        _try_place(rng, level, things, Thing(colour, "figure", deed), gesture(rng, deed))
    return Parts(things)


def _crowd(rng: Rng, level: Level) -> Parts:
    """All do the same but one. A direction counts: one may move against the others."""
    deeds = ("still", "move", "sway", "bounce", "pulse", "grow", "shrink")
    while True:
        usual = rng.choice(deeds)
        flow = rng.choice(_DIRECTIONS)
        against = usual == "move" and rng.bernoulli(0.5)
        other = "move" if against else rng.choice([deed for deed in deeds if deed != usual])
        drift = rng.choice([name for name in _DIRECTIONS if name != flow])
        wanted = 3 + rng.randrange(level.crowd - 2)
        odd = rng.randrange(wanted)
        things: list[Thing] = []
        for number, colour in enumerate(rng.shuffled(_COLOURS)[:wanted]):
            deed = other if number == odd else usual
            track = move(drift if number == odd else flow) if deed == "move" else DEEDS[deed](rng)
            if not _try_place(rng, level, things, Thing(colour, rng.choice(SHAPES), deed), track):
                break
        else:
            return Parts(things, odd=odd)


def _episode(rng: Rng, level: Level) -> Parts:
    """Three things that appear, vanish or change color one after the other, and perhaps one that only stands there."""
    while True:
        colours = rng.shuffled(_COLOURS)
        things: list[Thing] = []
        for number, first in enumerate((1, 3, 5)):
            deed = rng.choice(("appear", "vanish", "recolour"))
            at = first + rng.randrange(2)
            track = {"appear": appear(at), "vanish": vanish(at), "recolour": Track(at=at)}[deed]
            thing = Thing(colours[number], rng.choice(SHAPES), deed, then=colours[-1 - number] if deed == "recolour" else "")
            _try_place(rng, level, things, thing, track)
        if len(things) == 3:
            if rng.bernoulli(0.5):
                _try_place(rng, level, things, Thing(colours[3], rng.choice(SHAPES), "still"), Track())
            return Parts(things)


@dataclass(frozen=True, slots=True)
class Body:
    """A thing that others may run into: where it stands and where it is going."""

    x: int
    y: int
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Roll:
    """What became of a body."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    hit: int = -1
    """The body that it ran into first."""
    hit_by: int = -1
    direction: str = ""
    """Where it went in the end; empty when it never moved."""


def roll(bodies: Sequence[Body | None], frames: int = FRAMES) -> list[Roll | None]:
    """Let bodies go at 2 * SPEED. One that runs into others stops, and they go on instead of it; the edge of the floor
    stops everything. A body that is None is not there: this is how a counterfactual is told."""
    going = [body.direction if body else "" for body in bodies]
    at = [(body.x, body.y) if body else (0, 0) for body in bodies]
    went = [""] * len(bodies)
    hit, hit_by = [-1] * len(bodies), [-1] * len(bodies)
    paths = [[place] for place in at]
    for _ in range(frames - 1):
        moving = [n for n, name in enumerate(going) if name]
        for n in moving:
            if not going[n]:
                continue
            dx, dy = DIRECTIONS[going[n]]
            x, y = at[n][0] + 2 * SPEED * dx, at[n][1] + 2 * SPEED * dy
            met = [
                m
                for m, body in enumerate(bodies)
                if m != n and body and max(abs(at[m][0] - x), abs(at[m][1] - y)) <= 2 * RADIUS
            ]
            if met:
                hit[n] = met[0] if hit[n] < 0 else hit[n]
                for m in met:
                    hit_by[m] = n if hit_by[m] < 0 else hit_by[m]
                    going[m] = going[n]
                going[n] = ""
            elif RADIUS <= x < SIDE - RADIUS and RADIUS <= y < SIDE - RADIUS:
                at[n], went[n] = (x, y), going[n]
            else:
                going[n] = ""
        for n, place in enumerate(at):
            paths[n].append(place)
    return [
        Roll(tuple(x for x, _ in paths[n]), tuple(y for _, y in paths[n]), hit[n], hit_by[n], went[n]) if body else None
        for n, body in enumerate(bodies)
    ]


def bodies_of(scene: Scene, without: int = -1) -> list[Body | None]:
    """The bodies of a `push` scene as they start, one of them perhaps taken away."""
    return [
        None if n == without else Body(thing.x[0], thing.y[0], thing.direction if thing.deed in ("roll", "cross") else "")
        for n, thing in enumerate(scene.things)
    ]


def _near(rng: Rng, place: int) -> int:
    """Beside the middle of a patch, or on it."""
    return min(max(place + rng.choice((-2, 0, 2)), SPOTS[0]), SPOTS[-1])


def _touch(a: Body, b: Body) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) <= 2 * RADIUS


def _push(rng: Rng, level: Level) -> Parts:
    """One thing runs into another, which goes on or is held by a third; others stand or pass by."""
    while True:
        direction = rng.choice(_DIRECTIONS)
        lane = rng.randrange(4)
        along = CELLS if direction in ("right", "down") else CELLS[::-1]

        def cell(place: int, across: int, d: str = direction, cells: tuple[int, ...] = along) -> tuple[int, int]:
            return (cells[place], CELLS[across]) if DIRECTIONS[d][1] == 0 else (CELLS[across], cells[place])

        cells = [cell(0, lane), cell(2, lane)]
        held = rng.bernoulli(0.4)
        if held:
            cells.append(cell(3, lane))  # by this one
        cast = len(cells)
        free = [(x, y) for x in CELLS for y in CELLS if (x, y) not in cells]
        cells += rng.sample(free, max(1, _between(rng, level.things) - 2))
        ways = [direction] + [""] * (len(cells) - 1)
        if rng.bernoulli(0.5):
            ways[cast] = rng.choice(_DIRECTIONS)
        if not level.aligned:
            cells = [(_near(rng, x), _near(rng, y)) for x, y in cells]
        bodies = [Body(x, y, way) for (x, y), way in zip(cells, ways, strict=True)]
        if any(_touch(a, b) for a, b in itertools.combinations(bodies, 2)):
            continue
        rolls = [one for one in roll(bodies) if one]
        extra = rolls[cast:]
        # what passes by may touch nothing, or the story would be another one
        if rolls[0].hit != 1 or any(one.hit >= 0 or one.hit_by >= 0 for one in extra) or rolls[0].hit_by >= 0:
            continue
        if any(body.direction and not one.direction for body, one in zip(bodies, rolls, strict=True)):
            continue
        colours = rng.shuffled(_COLOURS)
        things = []
        for number, (body, one) in enumerate(zip(bodies, rolls, strict=True)):
            partner = one.hit if body.direction else one.hit_by
            if body.direction:
                deed = "roll" if one.hit >= 0 else "cross"
            else:
                deed = "still" if one.hit_by < 0 else "hit" if one.direction else "held"
            things.append(
                Thing(
                    colours[number],
                    rng.choice(SHAPES),
                    deed,
                    one.direction,
                    partner=colours[partner] if partner >= 0 else "",
                    x=one.x,
                    y=one.y,
                    radius=(RADIUS,) * FRAMES,
                    visible=(True,) * FRAMES,
                )
            )
        return Parts(things)


def _cups(rng: Rng, level: Level) -> Parts:
    """Three cups of one color; a coin goes under one, then neighbours change places. Something else may stand by."""
    row, left = (
        rng.choice([spot for spot in (CELLS if level.aligned else SPOTS) if low <= spot <= high])
        for low, high in ((8, 24), (4, 12))
    )
    xs = [left + 8 * number for number in range(3)]
    order = [0, 1, 2]  # which cup stands at each place
    paths = [[(x, row)] for x in xs]
    swaps = {2: rng.randrange(2), 5: rng.randrange(2)}
    if _between(rng, level.swaps) == 1:
        del swaps[rng.choice((2, 5))]
    for frame in range(1, FRAMES):
        for number in range(3):
            paths[order[number]].append((xs[number], row))
        if frame in swaps:  # half-way: one passes above, the other below
            at = swaps[frame]
            middle = (xs[at] + xs[at + 1]) // 2
            paths[order[at]][-1], paths[order[at + 1]][-1] = (middle, row - 4), (middle, row + 4)
            order[at], order[at + 1] = order[at + 1], order[at]
    colour, *others = rng.shuffled(_COLOURS)
    things = [
        Thing(
            colour,
            "cup",
            "cup",
            x=tuple(x for x, _ in path),
            y=tuple(y for _, y in path),
            radius=(RADIUS,) * FRAMES,
            visible=(True,) * FRAMES,
        )
        for path in paths
    ]
    coin = rng.randrange(3)
    for other in others[: 1 + rng.randrange(2)]:
        _try_place(rng, level, things, Thing(other, rng.choice(SHAPES), "still"), Track())
    return Parts(things, coin=coin)


def _camera(rng: Rng, level: Level) -> Parts:
    """Nothing moves but the camera: things and the dots on the floor shift, or spread from the middle."""
    way = rng.choice(CAMERA)
    # as many as may be, so that their number does not tell how far the camera has come
    points = [(rng.randrange(2 * SIDE) - MARGIN, rng.randrange(2 * SIDE) - MARGIN) for _ in range(rng.choice(_DOTS))]
    things: list[Thing] = []
    wanted = _between(rng, level.things)
    colours = rng.shuffled(_COLOURS)
    while len(things) < wanted:
        x, y = (rng.randrange(2 * SIDE - 2) - MARGIN + 1 for _ in range(2))  # some come into view, some leave it
        radius = rng.choice((2, 3)) if way not in DIRECTIONS else 2 + rng.randrange(4)
        thing = _filmed(way, Thing(colours[len(things)], rng.choice(SHAPES), "still"), x, y, radius)
        if sum(thing.visible) >= FRAMES // 2 and all(apart(thing, other) for other in things):
            things.append(thing)
    if any(all(_held(thing, frame) for thing in things) for frame in range(1, FRAMES)):
        return _camera(rng, level)  # in some frame nothing would be seen to move
    stars = []
    for frame in range(FRAMES):
        places = (_viewed(way, frame, x, y) for x, y in points)
        stars.append(tuple((x, y) for x, y in places if min(x, y) >= -MARGIN and max(x, y) < SIDE + MARGIN))
    return Parts(things, camera=way, stars=tuple(stars))


def _filmed(way: str, thing: Thing, x: int, y: int, radius: int) -> Thing:
    """A thing that stands at (x, y) as the camera shows it, as long as any of its box is in view."""
    path = [_viewed(way, frame, x, y) for frame in range(FRAMES)]
    radii = tuple(round(radius * _zoom(way, frame)) for frame in range(FRAMES))
    visible = tuple(-r <= min(place) and max(place) < SIDE + r for place, r in zip(path, radii, strict=True))
    return replace(thing, x=tuple(x for x, _ in path), y=tuple(y for _, y in path), radius=radii, visible=visible)


def _held(thing: Thing, frame: int) -> bool:
    """Whether a thing is out of view, or looks as it did in the frame before."""
    seen = thing.visible[frame - 1] and thing.visible[frame]
    return not seen or (thing.x[frame - 1], thing.y[frame - 1]) == (thing.x[frame], thing.y[frame])


def _zoom(way: str, frame: int) -> float:
    if way not in ("forward", "back"):
        return 1.0
    return 1 + 0.1 * (frame if way == "forward" else FRAMES - 1 - frame)


def _viewed(way: str, frame: int, x: int, y: int) -> tuple[int, int]:
    """Where the camera sees a point that stands still."""
    if way in DIRECTIONS:
        return x - SPEED * frame * DIRECTIONS[way][0], y
    half, zoom = SIDE // 2, _zoom(way, frame)
    return round(half + (x - half) * zoom), round(half + (y - half) * zoom)


STORIES: dict[str, tuple[Callable[[Rng, Level], Parts], float]] = {
    "medley": (_medley, 0.18),
    "traffic": (_traffic, 0.12),
    "fidgets": (_fidgets, 0.05),
    "letters": (_letters, 0.08),
    "patrol": (_patrol, 0.07),
    "figures": (_figures, 0.06),
    "crowd": (_crowd, 0.10),
    "episode": (_episode, 0.09),
    "push": (_push, 0.09),
    "cups": (_cups, 0.08),
    "camera": (_camera, 0.08),
}
"""Each story and its share of all clips."""
_UP_TO = dict(zip(STORIES, itertools.accumulate(share for _, share in STORIES.values()), strict=True))


def simulate(rng: Rng, level: Level = LEVELS["normal"], even: bool = False) -> Scene:
    """Draw a scene of any story: by the stories' shares, or each as often as the others."""
    draw = rng.random()
    # the last story takes whatever rounding leaves
    drawn = next((name for name, upto in _UP_TO.items() if draw < upto), list(STORIES)[-1])
    return tell(rng.choice(list(STORIES)) if even else drawn, rng, level)


def tell(story: str, rng: Rng, level: Level) -> Scene:
    """Draw a scene of one story."""
    parts = STORIES[story][0](rng, level)
    return _finished(rng, story, parts, changes=story != "camera" and rng.bernoulli(_CHANGES))


def still_life(rng: Rng, level: Level = LEVELS["normal"]) -> Scene:
    """A scene for an image: things that are simply there."""
    return _finished(rng, "image", Parts(_cast(rng, level, ("still",), (*SHAPES, *LETTERS))), changes=False)


def _finished(rng: Rng, story: str, parts: Parts, changes: bool) -> Scene:
    background = rng.choice(_BACKGROUNDS)
    then = rng.choice([name for name in _BACKGROUNDS if name != background]) if changes else background
    at = rng.choice(tuple(WHEN)) if changes else 0
    return Scene(story, tuple(parts.things), background, then, at, parts.camera, parts.coin, parts.odd, parts.stars)
