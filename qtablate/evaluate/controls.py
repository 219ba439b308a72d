"""Controls: the same questions with less to see. What a score owes to the video is told by what remains without it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from qtablate.data.temporal import ALTERED
from qtablate.datatypes import Item
from qtablate.seeds import Rng

NONE, BLIND, OTHER = "none", "blind", "other"
CONTROLS = (BLIND, *ALTERED, OTHER)
"""blind: a clip of the mean color; middle, shuffled, reversed: data/temporal.py; other: another item's clip."""

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
    near, far = defaultdict[tuple[str, str], _Clips](_Clips), defaultdict[str, _Clips](_Clips)
    for item in items:
        near[item.medium, item.task].add(item)
        far[item.medium].add(item)
    out = []
    for item in items:
        for group in (near[item.medium, item.task], far[item.medium]):
            others = len(group.clips) - len(group.of[item.cluster])
            if others:
                clip = group.other(Rng("control", OTHER, item.id).randrange(others), item.cluster)
                item = replace(item, clip=clip)
                break
        out.append(item)
    return out


@dataclass(frozen=True, slots=True)
class _Clips:
    """The clips of some items, in their order, and the places of each file's."""

    clips: list[str] = field(default_factory=list)
    of: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: Item) -> None:
        self.of[item.cluster].append(len(self.clips))
        self.clips.append(item.clip)

    def other(self, number: int, cluster: str) -> str:
        """One of the clips that are not of this file, counted from 0."""
        for place in self.of[cluster]:
            if place <= number:
                number += 1
        return self.clips[number]
