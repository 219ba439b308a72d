"""Scenes that several tests of the world share; they are generated once, when first needed."""

import itertools
from functools import cache

import numpy as np

from qtablate.seeds import Rng
from qtablate.world.levels import LEVELS
from qtablate.world.scenarios import random_scene
from qtablate.world.scene import GESTURES, Scene, SceneObject

COIN = (255, 215, 0)
SCENARIO_MOTIONS = {"push": {"roll", "cross", "hit", "blocked", "still"}, "cups": {"cup", "still"}, "figures": set(GESTURES)}
"""Motions of scenarios that do not draw from MOTIONS."""


@cache
def scenes() -> list[Scene]:
    """300 scenes of each level: scene n has level n % 3."""
    return [random_scene(Rng("test", "scene", level, number), LEVELS[level]) for number in range(300) for level in LEVELS]


@cache
def objects() -> list[SceneObject]:
    """All objects of these scenes."""
    return [obj for scene in scenes() for obj in scene.objects]


def of_scenario(scenario: str, among: list[Scene] | None = None) -> list[Scene]:
    """The scenes of one scenario."""
    return [scene for scene in (scenes() if among is None else among) if scene.scenario == scenario]


def colors_in(frame: np.ndarray) -> dict[tuple[int, ...], int]:
    """Count the pixels of each color."""
    values, counts = np.unique(frame.astype(int) @ (1 << 16, 1 << 8, 1), return_counts=True)
    return {(v >> 16, v >> 8 & 255, v & 255): count for v, count in zip(values.tolist(), counts.tolist(), strict=True)}


def path(obj: SceneObject) -> list[tuple[int, int]]:
    return list(zip(obj.x, obj.y, strict=True))


def steps(obj: SceneObject) -> list[tuple[int, int]]:
    """Return the (dx, dy) between consecutive frames."""
    return [(c - a, d - b) for (a, b), (c, d) in itertools.pairwise(path(obj))]


def toward(direction: str, pixels: int) -> tuple[int, int]:
    dx, dy = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}[direction]
    return dx * pixels, dy * pixels


def in_place(obj: SceneObject) -> bool:
    return len(set(path(obj))) == 1


def of_one_size(obj: SceneObject) -> bool:
    return len(set(obj.radius)) == 1
