"""Controls: the same questions with less to see. What a score owes to the video is told by what remains without it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from qtablate.bench.altered import ALTERED
from qtablate.bench.items import Item
from qtablate.seeds import Dice

NONE, BLIND, OTHER = "none", "blind", "other"
CONTROLS = (BLIND, *ALTERED, OTHER)
"""blind: a clip of the mean color; middle, shuffled, reversed: bench/altered.py; other: another item's clip."""

Features = Mapping[str, Tensor]


def shown(
    control: str, items: Sequence[Item], features: Callable[[str], Features], blank: Callable[[str], Tensor]
) -> tuple[Sequence[Item], Features]:
    """The items as they are asked under a control, and the features of the clips that they name then. `features` gives
    those of all clips as they are (NONE) or altered, `blank` those of an empty clip of a medium."""
    if control == BLIND:
        media = {item.medium for item in items}
        return [replace(item, clip=item.medium) for item in items], {medium: blank(medium) for medium in media}
    if control == OTHER:
        return _exchanged(items), features(NONE)
    return items, features(control)


def _exchanged(items: Sequence[Item]) -> list[Item]:
    """Each item asked of the clip of another one of its task and medium, never of its own file; where a task has only
    one file, of any other's."""
    out = []
    for item in items:
        own = [other for other in items if other.medium == item.medium and other.cluster != item.cluster]
        near = [other for other in own if other.task == item.task]
        if near or own:
            item = replace(item, clip=Dice("control", OTHER, item.id).pick(near or own).clip)
        out.append(item)
    return out
