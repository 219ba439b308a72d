"""Apply a control: ask the same items with less of the video to see.

What a score owes to the video is the difference between the clip as it is and a control. Names: qtablate/controls.py.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from qtablate.controls import BLIND, FULL, MISMATCHED_CLIP
from qtablate.datatypes import Item
from qtablate.seeds import Rng

Features = Mapping[str, Tensor]
"""Frozen features (N, D) of each clip by its name."""

_MISMATCHED_STREAM = "other"
"""The former name of mismatched_clip: it stays in the random stream, so that items keep the clips that they were given."""


def apply_control(
    control: str, items: Sequence[Item], features: Callable[[str], Features], blank: Callable[[str], Tensor]
) -> tuple[Sequence[Item], Features]:
    """Return the items as they are asked under a control, and the features of the clips that they then name.

    Args:
        control: `full`, or one of qtablate.controls.CONTROLS.
        items: what is asked, naming the clips that belong to them.
        features: gives the features of all clips under a control that alters frames, or as they are (`full`).
        blank: gives the features of an empty clip of a medium.
    """
    if control == BLIND:
        media = {item.medium for item in items}
        return [replace(item, clip=item.medium) for item in items], {medium: blank(medium) for medium in media}
    if control == MISMATCHED_CLIP:
        return _mismatched(items), features(FULL)
    return items, features(control)


def _mismatched(items: Sequence[Item]) -> list[Item]:
    """Give each item the clip of another item of its task and medium, never of its own file.

    Where a task has only one file, the clip is that of any other item of the medium; where a medium has only one, it stays.
    """
    of_task, of_medium = defaultdict[tuple[str, str], _Clips](_Clips), defaultdict[str, _Clips](_Clips)
    for item in items:
        of_task[item.medium, item.task].add(item)
        of_medium[item.medium].add(item)
    out = []
    for item in items:
        for group in (of_task[item.medium, item.task], of_medium[item.medium]):
            candidates = len(group.clips) - len(group.positions[item.cluster])
            if candidates:
                number = Rng("control", _MISMATCHED_STREAM, item.id).randrange(candidates)
                item = replace(item, clip=group.of_other_file(number, item.cluster))
                break
        out.append(item)
    return out


@dataclass(frozen=True, slots=True)
class _Clips:
    """The clips of some items, in their order, and the positions of each file's clips among them."""

    clips: list[str] = field(default_factory=list)
    positions: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, item: Item) -> None:
        """Append an item's clip."""
        self.positions[item.cluster].append(len(self.clips))
        self.clips.append(item.clip)

    def of_other_file(self, number: int, cluster: str) -> str:
        """Return the clip with this number, counted from 0, among the clips that are not of the file `cluster`."""
        for position in self.positions[cluster]:
            if position <= number:
                number += 1
        return self.clips[number]
