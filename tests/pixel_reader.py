"""A reader that answers the world's questions from pixels alone, without the event log."""

import itertools
import re
from collections import Counter
from functools import cache

import numpy as np

from qtablate.seeds import Rng
from qtablate.world.levels import LEVELS
from qtablate.world.question import Question
from qtablate.world.scenarios import random_scene
from qtablate.world.scene import Scene, render

# the palette as a viewer would name it, not imported: a changed color must be noticed here
RGB = {
    "red": (225, 35, 35),
    "green": (35, 170, 50),
    "blue": (50, 80, 235),
    "yellow": (240, 225, 50),
    "purple": (150, 50, 190),
    "orange": (245, 140, 25),
    "cyan": (60, 215, 225),
    "white": (245, 245, 245),
}

FLOOR = {"black": (10, 10, 10), "gray": (110, 110, 110), "navy": (15, 20, 75), "brown": (85, 55, 30)}

COIN = (255, 215, 0)

COUNT = ("zero", "one", "two", "three")

TIME_WORDS = ("", "early", "early", "midway", "midway", "late", "late", "")

STEP = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}

BACK = {"left": "right", "right": "left", "up": "down", "down": "up"}

IMAGE_SIZE = 32

FORMS_BY_SIDES = {  # which of (left, right, top, bottom) is a whole line
    (True, True, True, True): "square",
    (False, False, False, True): "triangle",
    (False, False, True, False): "T",
    (True, False, False, True): "L",
    (True, True, False, False): "H",
    (True, True, False, True): "U",
    (True, False, True, True): "E",
    (True, True, True, False): "cup",
}

Box = tuple[int, int, int, int]
"""Left, right, top and bottom pixel."""


def packed(pixels: object) -> np.ndarray:
    return np.asarray(pixels, dtype=int) @ (1 << 16, 1 << 8, 1)


def name_of(rgb: object, palette: dict[str, tuple[int, int, int]]) -> str:
    return {value: name for name, value in palette.items()}.get(tuple(np.asarray(rgb).tolist()), "")


class PixelReader:
    """What the pixels show: for each color, its bounding box in each frame."""

    def __init__(self, clip: np.ndarray) -> None:
        self.clip, self.packed = clip, packed(clip)
        self.boxes = {name: [self._box(mask) for mask in self.packed == packed(rgb)] for name, rgb in RGB.items()}
        self.colors = [name for name, boxes in self.boxes.items() if any(boxes)]

    @staticmethod
    def _box(mask: np.ndarray) -> Box | None:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        return (int(columns[0]), int(columns[-1]), int(rows[0]), int(rows[-1])) if len(rows) else None

    def seen(self, color: str) -> list[bool]:
        return [box is not None for box in self.boxes[color]]

    def path(self, color: str) -> list[tuple[float, float]]:
        return [((b[0] + b[1]) / 2, (b[2] + b[3]) / 2) for b in self.boxes[color] if b]

    def widths(self, color: str) -> list[int]:
        return [box[1] - box[0] + 1 for box in self.boxes[color] if box]

    def way(self, color: str, start: int = 0, end: int = -1) -> str:
        """Direction between two frames; empty without motion or for motion along both axes."""
        path = self.path(color)
        sign = tuple(int(np.sign(b - a)) for a, b in zip(path[start], path[end], strict=True))
        return {step: name for name, step in STEP.items()}.get(sign, "")

    def moves(self, color: str) -> bool:
        return len(set(self.path(color))) > 1

    def turns(self, color: str) -> str:
        """Such as `up then left`; empty for an object that keeps its direction."""
        first, last = self.way(color, 0, 1), self.way(color, -2, -1)
        return f"{first} then {last}" if first != last else ""

    def next_way(self, color: str) -> str:
        """Continue a periodic motion after its three legs of two frames: back after there, back and there; the fourth side of
        a square after three."""
        first, second, third = (self.way(color, start, start + 2) for start in (0, 2, 4))
        if second == BACK[first]:
            assert third == first
            return second
        assert third == BACK[first]
        return BACK[second]

    def floor(self, frame: int) -> str:
        colors, counts = np.unique(self.packed[frame], return_counts=True)
        value = int(colors[counts.argmax()])
        return name_of((value >> 16, value >> 8 & 255, value & 255), FLOOR)

    def pixels(self, color: str, frame: int) -> np.ndarray:
        """Mask of an object in its bounding box."""
        left, right, top, bottom = self.boxes[color][frame]
        return self.packed[frame, top : bottom + 1, left : right + 1] == packed(RGB[color])

    def form(self, color: str) -> str:
        it = self.pixels(color, self.seen(color).index(True))
        sides = (it[:, 0].all(), it[:, -1].all(), it[0].all(), it[-1].all())
        if any(sides):
            return FORMS_BY_SIDES[tuple(map(bool, sides))]
        corners = it[0, 0], it[-1, 0]
        if all(corners):
            return "X"
        if any(corners) or (it[:, 0].sum() == 1 and it[0].sum() == 3):
            return "figure"
        return "cross" if it[0].sum() == it[1].sum() else "disc"

    def arms(self, color: str) -> list[str]:
        """Poses of a figure: its hands are where it touches the left edge of its bounding box."""
        boxes = [self.pixels(color, n) for n in range(len(self.clip))]
        return [{0: "up", len(it) // 2: "out", len(it) - 1: "down"}[int(it[:, 0].argmax())] for it in boxes]

    def becomes(self, color: str) -> tuple[str, int]:
        """The color in the last frame where this one was first, and the frame in which it came."""
        (x, y) = self.path(color)[0]
        column = self.packed[:, int(y), int(x)].tolist()
        return name_of(self.clip[-1, int(y), int(x)], RGB), column.index(column[-1])

    def changes(self, color: str) -> bool:
        return self.becomes(color)[0] not in ("", color) and self.seen(color)[0] and not self.seen(color)[-1]

    def objects(self) -> list[str]:
        """Objects by their first color; the final color of another object is not an object of its own."""
        later = {self.becomes(name)[0] for name in self.colors if self.changes(name)}
        return [name for name in self.colors if name not in later]

    def events(self) -> dict[str, int]:
        """Frame in which each object appears, vanishes or changes color."""
        seen = {name: self.seen(name) for name in self.objects()}
        return {name: shown.index(not shown[0]) for name, shown in seen.items() if not all(shown)}

    def motion(self, color: str) -> str:
        seen, widths, path = self.seen(color), self.widths(color), self.path(color)
        if self.form(color) == "figure":
            arms = self.arms(color)
            if all(a != b for a, b in itertools.pairwise(arms)):
                return "waves" if "up" in arms else "flaps"
            heights = [("down", "out", "up").index(pose) for pose in arms]
            assert heights in (sorted(heights), sorted(heights)[::-1])
            return "raises" if heights[-1] > heights[0] else "lowers"
        if not seen[0]:
            return "appears"
        if not seen[-1]:
            return "changes" if self.changes(color) else "vanishes"
        if not all(seen):
            return "blinks"
        if len({*widths}) > 1:
            return "grows" if widths == sorted(widths) else "shrinks" if widths == sorted(widths)[::-1] else "pulses"
        # to both sides of where it began
        swings = [min(places) < places[0] < max(places) for places in zip(*path, strict=True)]
        return {(True, False): "sways", (False, True): "bounces"}.get(tuple(swings), "")

    def habit(self, color: str) -> object:
        """The motion of an object without its position, form and color."""
        (x, y), widths = self.path(color)[0], self.widths(color)
        return (
            tuple(self.seen(color)),
            tuple((a - x, b - y) for a, b in self.path(color)),
            tuple(width - widths[0] for width in widths),
        )

    def unlike(self) -> str:
        habits = {name: self.habit(name) for name in self.colors}
        counts = Counter(habits.values())
        assert len(counts) == 2
        assert len(habits) > 2
        (odd,) = [name for name, habit in habits.items() if counts[habit] == 1]
        return odd

    def hits(self) -> list[tuple[str, str]]:
        """(moving object, hit object): the first moves from the first frame on and rests where its next step would touch."""
        out = []
        for name in self.colors:
            path, way = self.path(name), self.way(name, 0, 1)
            rest = next((n for n, (a, b) in enumerate(itertools.pairwise(path)) if a == b), 0)
            if way and rest:
                (x, y), (dx, dy) = path[rest], np.subtract(path[1], path[0])
                there = {o: self.path(o)[rest] for o in self.colors if o != name}
                out += [(name, o) for o, (a, b) in there.items() if max(abs(a - x - dx), abs(b - y - dy)) < 7]
        return out

    def camera(self) -> str:
        """The frame shifts against a camera that moves sideways, and spreads in front of one that moves forward."""
        first, then = self.packed[:-1], self.packed[1:]
        shifted = {"left": (first[..., :-2], then[..., 2:]), "right": (first[..., 2:], then[..., :-2])}
        aside = [way for way, (a, b) in shifted.items() if (a == b).all()]
        if aside:
            (way,) = aside
            return way
        spread = []
        for boxes in self.boxes.values():
            whole = [b for b in boxes if b and min(b) > 0 and max(b) < IMAGE_SIZE - 1]
            if whole:  # how far its middle is from that of the picture, and how large it is
                ends = [
                    max(abs(b[0] + b[1] - IMAGE_SIZE), abs(b[2] + b[3] - IMAGE_SIZE)) + b[1] - b[0]
                    for b in (whole[0], whole[-1])
                ]
                spread.append(ends[1] - ends[0])
        if not any(spread):  # objects at the edge only: a near camera shows fewer dots
            floors = [np.unique(self.packed[frame], return_counts=True)[1].max() for frame in (0, -1)]
            spread = [floors[1] - floors[0]]
        spread = np.array(spread)
        assert (spread > 0).any() != (spread < 0).any()
        return "forward" if (spread > 0).any() else "back"

    def cups(self, frame: int) -> list[tuple[float, float]]:
        """Centers of the connected regions in the color around the coin, coin included, from left to right."""
        left, _, top, _ = self._box(self.packed[0] == packed(COIN))
        mask = (self.packed[frame] == self.packed[0, top + 1, left - 1]) | (self.packed[frame] == packed(COIN))
        rest, out = {(int(x), int(y)) for y, x in np.argwhere(mask)}, []
        while rest:
            found, new = set(), [min(rest)]
            while new:
                x, y = new.pop()
                if (x, y) in rest:
                    rest.remove((x, y))
                    found.add((x, y))
                    new += [(x + dx, y + dy) for dx, dy in STEP.values()]
            xs, ys = zip(*found, strict=True)
            out.append(((min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2))
        return sorted(out)

    def coin(self) -> list[int]:
        """Position of the cup with the coin in each frame, from the left. Two cups that meet change places."""
        (box,) = {self._box(mask) for mask in self.packed[:2] == packed(COIN)}
        middle = ((box[0] + box[1]) / 2, (box[2] + box[3]) / 2)
        start = self.cups(0)
        places, out = [x for x, _ in start], [start.index(middle)]
        for frame in range(1, len(self.clip)):
            cups, at = self.cups(frame), out[-1]
            between = [x for x, y in cups if y != start[0][1]]
            if between:
                assert len(set(between)) == 1
                swapped = [n for n, place in enumerate(places) if abs(place - between[0]) < 5]
                assert len(between) == len(swapped) == 2
                at = sum(swapped) - at if at in swapped else at
            out.append(at)
        return out

    def without(self, gone: str) -> dict[str, str]:
        """Last direction of each object if one were not there; empty for an object that stays.

        Objects are squares of 7 pixels painted on a floor, and their first step shows their speed. An object moves on if it
        can; one that is stopped by another passes its speed on to it; one that reaches the edge rests.
        """
        names = [name for name in self.colors if name != gone]
        corner = {n: (self.boxes[n][0][0], self.boxes[n][0][2]) for n in names}
        speed = {n: tuple(int(v) for v in np.subtract(self.path(n)[1], self.path(n)[0])) for n in names}
        went = dict.fromkeys(names, "")
        floor = np.full((IMAGE_SIZE, IMAGE_SIZE), -1)

        def square(n: str, dx: int = 0, dy: int = 0) -> np.ndarray:
            x, y = corner[n][0] + dx, corner[n][1] + dy
            return floor[y : y + 7, x : x + 7] if min(x, y) >= 0 else floor[:0]

        def met(n: str) -> list[int]:
            return sorted(set(square(n, *speed[n]).flat) - {-1, names.index(n)})

        for n in names:
            square(n)[:] = names.index(n)
        for _ in range(len(self.clip) - 1):
            waiting = [n for n in names if any(speed[n])]
            while free := [n for n in waiting if square(n, *speed[n]).size == 49 and not met(n)]:
                n = free[0]
                waiting.remove(n)
                square(n)[:] = -1
                corner[n] = (corner[n][0] + speed[n][0], corner[n][1] + speed[n][1])
                square(n)[:] = names.index(n)
                went[n] = {step: name for name, step in STEP.items()}[tuple(int(v) for v in np.sign(speed[n]))]
            handed = {}
            for n in waiting:
                if square(n, *speed[n]).size == 49:
                    handed |= {names[other]: speed[n] for other in met(n)}
                speed[n] = (0, 0)
            speed |= handed
        return went


NAMED = re.compile(r"\b[Tt]he (\w+) (square|disc|triangle|cross|[TLHXUE]|figure|thing)\b")


def answer(reader: PixelReader, question: Question) -> str:
    """Answer a question from the pixels."""
    named = NAMED.findall(question.text)
    assert all(form in ("thing", reader.form(color)) for color, form in named)
    color = named[-1][0] if named else ""
    match question.task:
        case "moving_direction":
            return reader.way(color)
        case "moving_count":
            return COUNT[sum(reader.moves(name) for name in reader.colors)]
        case "moving_attribute":
            way = question.text.removesuffix("?").split()[-1]
            (one,) = [
                name for name in reader.colors if reader.moves(name) and not reader.turns(name) and reader.way(name) == way
            ]
            return one
        case "object_existence":
            asked = question.text.split()[3]
            assert asked in RGB
            return "yes" if asked in reader.colors and reader.moves(asked) else "no"
        case "action_sequence":
            return reader.turns(color)
        case "action_prediction":
            return reader.next_way(color)
        case "action_count":
            return COUNT[sum(a and not b for a, b in itertools.pairwise(reader.seen(color)))]
        case "action_antonym" | "fine_grained_action" | "fine_grained_pose":
            return reader.motion(color)
        case "unexpected_action":
            return reader.unlike()
        case "object_interaction":
            (pair,) = reader.hits()
            mine, other = pair if "does" in question.text else pair[::-1]
            assert mine == color
            return other
        case "object_shuffle":
            return ("left", "middle", "right")[reader.coin()[-1]]
        case "action_localization":
            return TIME_WORDS[reader.events()[color]]
        case "state_change":
            return reader.becomes(color)[0]
        case "scene_transition":
            return f"{reader.floor(0)} to {reader.floor(-1)}"
        case "character_order":
            arrived = {f"{name} {reader.form(name)}": reader.seen(name).index(True) for name in reader.colors}
            assert set(arrived) == set(question.options)
            assert len(set(arrived.values())) == len(arrived)
            place = {"first": 0, "second": 1, "last": -1}[question.text.removesuffix("?").split()[-1]]
            return sorted(arrived, key=arrived.__getitem__)[place]
        case "egocentric_navigation":
            return reader.camera()
        case "episodic_reasoning":
            word, motion = re.fullmatch(r"What acts right (\w+) the \w+ \w+ (\w+)\?", question.text).groups()
            assert motion == reader.motion(color)
            when = reader.events()
            (near,) = (sorted if word == "after" else lambda some: sorted(some)[::-1])(
                frame for frame in when.values() if (frame > when[color] if word == "after" else frame < when[color])
            )[:1]
            (one,) = [name for name, frame in when.items() if frame == near]
            return one
        case "counterfactual_inference":
            way = reader.without(named[0][0])[color]
            return f"goes {way}" if way else "stays"
    raise AssertionError(f"the reader knows no task {question.task}: teach it")


@cache
def question_scenes() -> list[Scene]:
    """300 scenes of each level."""
    return [random_scene(Rng("test", "questions", level, number), LEVELS[level]) for number in range(300) for level in LEVELS]


@cache
def readers() -> dict[int, PixelReader]:
    """A reader of each scene, by the scene's id()."""
    return {id(scene): PixelReader(render(scene)) for scene in question_scenes()}
