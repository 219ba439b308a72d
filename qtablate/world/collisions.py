"""Collisions: objects that run into each other, and the scenario `push` made of them."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from qtablate.seeds import Rng
from qtablate.world.levels import Level
from qtablate.world.motions import RADIUS, SPEED
from qtablate.world.placement import COLOR_NAMES, SceneParts, draw_between
from qtablate.world.scene import DIRECTIONS, FRAMES, IMAGE_SIZE, PATCH_CENTERS, SHAPES, START_POSITIONS, Scene, SceneObject

_DIRECTIONS = tuple(DIRECTIONS)


@dataclass(frozen=True, slots=True)
class Body:
    """Start of an object that can collide: the center in pixels and the direction, empty at rest."""

    x: int
    y: int
    direction: str = ""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Path of a body through the frames of a clip, and its first collisions."""

    x: tuple[int, ...]
    y: tuple[int, ...]
    hit: int | None = None
    """Index of the first body that this one ran into."""
    hit_by: int | None = None
    """Index of the first body that ran into this one."""
    direction: str = ""
    """Last direction of motion; empty for a body that never moved."""


def simulate_collisions(bodies: Sequence[Body | None], frames: int = FRAMES) -> list[Trajectory | None]:
    """Simulate bodies that move at 2 * SPEED pixels per frame.

    A body that runs into others stops and passes its motion on to them. The edge of the floor stops every body.

    Args:
        bodies: The bodies at their start. None stands for a body that was removed; counterfactual questions use this.
        frames: Length of the trajectories.

    Returns:
        One trajectory per body, None for None.
    """
    directions = [body.direction if body else "" for body in bodies]
    positions = [(body.x, body.y) if body else (0, 0) for body in bodies]
    last_directions = [""] * len(bodies)
    hit: list[int | None] = [None] * len(bodies)
    hit_by: list[int | None] = [None] * len(bodies)
    paths = [[position] for position in positions]
    for _ in range(frames - 1):
        moving = [n for n, direction in enumerate(directions) if direction]
        for n in moving:
            if not directions[n]:  # stopped by a body that moved earlier in this frame
                continue
            dx, dy = DIRECTIONS[directions[n]]
            x, y = positions[n][0] + 2 * SPEED * dx, positions[n][1] + 2 * SPEED * dy
            touched = [
                m
                for m, body in enumerate(bodies)
                if m != n and body and max(abs(positions[m][0] - x), abs(positions[m][1] - y)) <= 2 * RADIUS
            ]
            if touched:
                hit[n] = touched[0] if hit[n] is None else hit[n]
                for m in touched:
                    hit_by[m] = n if hit_by[m] is None else hit_by[m]
                    directions[m] = directions[n]
                directions[n] = ""
            elif RADIUS <= x < IMAGE_SIZE - RADIUS and RADIUS <= y < IMAGE_SIZE - RADIUS:
                positions[n], last_directions[n] = (x, y), directions[n]
            else:
                directions[n] = ""
        for n, position in enumerate(positions):
            paths[n].append(position)
    return [
        Trajectory(tuple(x for x, _ in paths[n]), tuple(y for _, y in paths[n]), hit[n], hit_by[n], last_directions[n])
        if body
        else None
        for n, body in enumerate(bodies)
    ]


def initial_bodies(scene: Scene, without: int | None = None) -> list[Body | None]:
    """Return the bodies of a `push` scene at their start; the object at index `without` is removed (None)."""
    return [
        None if n == without else Body(obj.x[0], obj.y[0], obj.direction if obj.motion in ("roll", "cross") else "")
        for n, obj in enumerate(scene.objects)
    ]


def push(rng: Rng, level: Level) -> SceneParts:
    """One object hits another, which moves on or is blocked by a third; further objects rest or move past.

    Setups are drawn until one collides as intended.
    """
    while True:
        bodies, chain = _draw_bodies(rng, level)
        if any(_touching(a, b) for a, b in itertools.combinations(bodies, 2)):
            continue
        trajectories = [trajectory for trajectory in simulate_collisions(bodies) if trajectory]
        if _collides_as_intended(bodies, trajectories, chain):
            return SceneParts(_as_objects(rng, bodies, trajectories))


def _draw_bodies(rng: Rng, level: Level) -> tuple[list[Body], int]:
    """Draw (bodies, length of the chain): the first 2 or 3 bodies stand in one lane and are meant to collide."""
    direction = rng.choice(_DIRECTIONS)
    lane = rng.randrange(4)
    centers = PATCH_CENTERS if direction in ("right", "down") else PATCH_CENTERS[::-1]
    horizontal = DIRECTIONS[direction][1] == 0

    def in_lane(place: int) -> tuple[int, int]:
        return (centers[place], PATCH_CENTERS[lane]) if horizontal else (PATCH_CENTERS[lane], centers[place])

    starts = [in_lane(0), in_lane(2)]
    if rng.bernoulli(0.4):
        starts.append(in_lane(3))  # blocks the second
    chain = len(starts)
    free = [(x, y) for x in PATCH_CENTERS for y in PATCH_CENTERS if (x, y) not in starts]
    starts += rng.sample(free, max(1, draw_between(rng, level.objects) - 2))
    directions = [direction] + [""] * (len(starts) - 1)
    if rng.bernoulli(0.5):
        directions[chain] = rng.choice(_DIRECTIONS)
    if not level.aligned:
        starts = [(_jittered(rng, x), _jittered(rng, y)) for x, y in starts]
    return [Body(x, y, direction) for (x, y), direction in zip(starts, directions, strict=True)], chain


def _jittered(rng: Rng, position: int) -> int:
    return min(max(position + rng.choice((-2, 0, 2)), START_POSITIONS[0]), START_POSITIONS[-1])


def _touching(a: Body, b: Body) -> bool:
    return max(abs(a.x - b.x), abs(a.y - b.y)) <= 2 * RADIUS


def _collides_as_intended(bodies: Sequence[Body], trajectories: Sequence[Trajectory], chain: int) -> bool:
    """Whether the first body hits the second, the bodies outside the chain touch nothing and all moving bodies moved."""
    first, bystanders = trajectories[0], trajectories[chain:]
    if first.hit != 1 or first.hit_by is not None:
        return False
    if any(trajectory.hit is not None or trajectory.hit_by is not None for trajectory in bystanders):
        return False
    return all(trajectory.direction or not body.direction for body, trajectory in zip(bodies, trajectories, strict=True))


def _as_objects(rng: Rng, bodies: Sequence[Body], trajectories: Sequence[Trajectory]) -> list[SceneObject]:
    colors = rng.shuffled(COLOR_NAMES)
    objects = []
    for number, (body, trajectory) in enumerate(zip(bodies, trajectories, strict=True)):
        partner = trajectory.hit if body.direction else trajectory.hit_by
        if body.direction:
            motion = "cross" if trajectory.hit is None else "roll"
        elif trajectory.hit_by is None:
            motion = "still"
        else:
            motion = "hit" if trajectory.direction else "blocked"
        objects.append(
            SceneObject(
                colors[number],
                rng.choice(SHAPES),
                motion,
                trajectory.direction,
                partner="" if partner is None else colors[partner],
                x=trajectory.x,
                y=trajectory.y,
                radius=(RADIUS,) * FRAMES,
                visible=(True,) * FRAMES,
            )
        )
    return objects
