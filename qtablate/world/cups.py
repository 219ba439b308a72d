"""The scenario `cups`: a coin under one of three cups that change places (a shell game)."""

from qtablate.seeds import Rng
from qtablate.world.levels import Level
from qtablate.world.motions import RADIUS, Track
from qtablate.world.placement import COLOR_NAMES, SceneParts, draw_between, start_positions, try_place
from qtablate.world.scene import FRAMES, SHAPES, SceneObject

_SWAP_FRAMES = (2, 5)  # the coin is covered by then
_CUP_DISTANCE = 8  # pixels between the centers of neighboring cups
_ROWS, _LEFT_COLUMNS = (8, 24), (4, 12)  # bounds in pixels within which three cups and their swaps stay on the floor


def cups(rng: Rng, level: Level) -> SceneParts:
    """Three cups of one color; a coin goes under one, then neighbors change places. One or two objects stand by."""
    row, left = (
        rng.choice([position for position in start_positions(level) if low <= position <= high])
        for low, high in (_ROWS, _LEFT_COLUMNS)
    )
    swaps = {frame: rng.randrange(2) for frame in _SWAP_FRAMES}  # frame -> position of the left cup of the pair
    if draw_between(rng, level.swaps) == 1:
        del swaps[rng.choice(_SWAP_FRAMES)]
    color, *others = rng.shuffled(COLOR_NAMES)
    objects = [
        SceneObject(
            color,
            "cup",
            "cup",
            x=tuple(x for x, _ in path),
            y=tuple(y for _, y in path),
            radius=(RADIUS,) * FRAMES,
            visible=(True,) * FRAMES,
        )
        for path in _swapped_paths(row, left, swaps)
    ]
    coin_index = rng.randrange(3)
    for other in others[: 1 + rng.randrange(2)]:
        try_place(rng, level, objects, SceneObject(other, rng.choice(SHAPES), "still"), Track())
    return SceneParts(objects, coin_index=coin_index)


def _swapped_paths(row: int, left: int, swaps: dict[int, int]) -> list[list[tuple[int, int]]]:
    """Return the (x, y) of each cup in every frame. In the frame of a swap both cups are halfway, one above the other."""
    columns = [left + _CUP_DISTANCE * number for number in range(3)]
    order = [0, 1, 2]  # the cup at each position
    paths = [[(x, row)] for x in columns]
    for frame in range(1, FRAMES):
        for position in range(3):
            paths[order[position]].append((columns[position], row))
        if frame in swaps:
            at = swaps[frame]
            middle = (columns[at] + columns[at + 1]) // 2
            paths[order[at]][-1], paths[order[at + 1]][-1] = (middle, row - 4), (middle, row + 4)
            order[at], order[at + 1] = order[at + 1], order[at]
    return paths
