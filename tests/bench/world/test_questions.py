"""Every answer is found again in the rendered pixels alone, by a small eye that does not know the event log."""

import itertools
import re

import numpy as np
import pytest

from qtablate.bench.world.questions import TASKS, Question, caption, image_questions, questions
from qtablate.bench.world.scene import render, simulate
from qtablate.seeds import Dice

# the palette as a viewer would name it, not imported: a changed colour must be seen here
RGB = {
    "red": (225, 35, 35), "green": (35, 170, 50), "blue": (50, 80, 235), "yellow": (240, 225, 50), "purple": (150, 50, 190),
    "orange": (245, 140, 25), "cyan": (60, 215, 225), "white": (245, 245, 245),
}  # fmt: skip
FLOOR = {"black": (10, 10, 10), "gray": (110, 110, 110), "navy": (15, 20, 75), "brown": (85, 55, 30)}
COUNT = ("zero", "one", "two", "three")
WHEN = ("", "early", "early", "midway", "midway", "late", "late", "")


class Eye:
    """What can be told from the pixels: for each colour, where it is in each frame."""

    def __init__(self, clip: np.ndarray) -> None:
        self.clip = clip
        self.boxes = {name: [self._box(frame, rgb) for frame in clip] for name, rgb in RGB.items()}
        self.colours = [name for name, boxes in self.boxes.items() if any(boxes)]

    @staticmethod
    def _box(frame: np.ndarray, rgb: tuple[int, ...]) -> tuple[int, int, int, int] | None:
        rows, columns = np.nonzero((frame == rgb).all(axis=-1))
        return (columns.min(), columns.max(), rows.min(), rows.max()) if len(rows) else None

    def seen(self, colour: str) -> list[bool]:
        return [box is not None for box in self.boxes[colour]]

    def path(self, colour: str) -> list[tuple[float, float]]:
        return [((b[0] + b[1]) / 2, (b[2] + b[3]) / 2) for b in self.boxes[colour] if b]

    def way(self, colour: str, start: int = 0, end: int = -1) -> str:
        """The direction between two frames; empty when it is none or not along one axis."""
        path = self.path(colour)
        dx, dy = (int(np.sign(b - a)) for a, b in zip(path[start], path[end], strict=True))
        return {(-1, 0): "left", (1, 0): "right", (0, -1): "up", (0, 1): "down"}.get((dx, dy), "")

    def moves(self, colour: str) -> bool:
        return len(set(self.path(colour))) > 1

    def turns(self, colour: str) -> str:
        """Like `up then left`; empty for a thing that keeps its direction."""
        first, last = self.way(colour, 0, 1), self.way(colour, -2, -1)
        return f"{first} then {last}" if first != last else ""

    def floor(self, frame: int) -> str:
        colours, counts = np.unique(self.clip[frame].reshape(-1, 3), axis=0, return_counts=True)
        return {rgb: name for name, rgb in FLOOR.items()}[tuple(colours[counts.argmax()].tolist())]

    def shape(self, colour: str) -> str:
        frame = self.seen(colour).index(True)
        x0, x1, y0, y1 = self.boxes[colour][frame]
        rows = (self.clip[frame, y0 : y1 + 1, x0 : x1 + 1] == RGB[colour]).all(axis=-1).sum(axis=1).tolist()
        if min(rows) == x1 - x0 + 1:
            return "square"
        if rows[-1] == x1 - x0 + 1:
            return "triangle"
        return "cross" if rows[0] == rows[1] else "disc"

    def becomes(self, colour: str) -> tuple[str, int]:
        """The colour that stands in the last frame where this one stood first, and the frame in which it came."""
        (x, y) = self.path(colour)[0]
        column = [tuple(frame[int(y), int(x)].tolist()) for frame in self.clip]
        return {rgb: name for name, rgb in RGB.items()}.get(column[-1], ""), column.index(column[-1])

    def deed(self, colour: str) -> str:
        seen, boxes = self.seen(colour), [box for box in self.boxes[colour] if box]
        if not seen[0]:
            return "appears"
        if not seen[-1]:
            return "vanishes"
        first, last = (box[1] - box[0] for box in (boxes[0], boxes[-1]))
        return "grows" if last > first else "shrinks" if last < first else ""


def answer(eye: Eye, question: Question) -> str:
    """The answer that the eye gives."""
    named = re.search(r"\b(?:the|a) (\w+) (square|disc|triangle|cross)\b", question.text)
    colour = named[1] if named else ""
    match question.task:
        case "moving_direction":
            return eye.way(colour)
        case "moving_count":
            return COUNT[sum(eye.moves(name) for name in eye.colours)]
        case "moving_attribute":
            way = question.text.removesuffix("?").split()[-1]
            (one,) = [name for name in eye.colours if eye.moves(name) and not eye.turns(name) and eye.way(name) == way]
            return one
        case "object_existence":
            return "yes" if colour in eye.colours and eye.shape(colour) == named[2] else "no"
        case "action_sequence":
            return eye.turns(colour)
        case "action_count":
            return COUNT[sum(a and not b for a, b in itertools.pairwise(eye.seen(colour)))]
        case "action_antonym":
            return eye.deed(colour)
        case "action_localization":
            seen = eye.seen(colour)
            if "change color" in question.text:
                return WHEN[eye.becomes(colour)[1]]
            return WHEN[seen.index(not seen[0])]
        case "state_change":
            return eye.becomes(colour)[0]
        case "scene_transition":
            return f"{eye.floor(0)} to {eye.floor(-1)}"
        case "character_order":
            names = {f"{name} {eye.shape(name)}": eye.seen(name).index(True) for name in eye.colours}
            arrived = {name: frame for name, frame in names.items() if name in question.options}
            return (max if "last" in question.text else min)(arrived, key=arrived.__getitem__)
    raise AssertionError(f"the eye knows no task {question.task}: teach it")


SCENES = [simulate(Dice("test", "questions", number)) for number in range(300)]
ASKED = [(scene, question) for n, scene in enumerate(SCENES) for question in questions(scene, Dice("test", "asked", n))]
EYES = {id(scene): Eye(render(scene)) for scene in SCENES}


@pytest.mark.parametrize("task", TASKS)
def test_the_eye_finds_every_answer_in_the_pixels(task):
    mine = [(scene, question) for scene, question in ASKED if question.task == task]
    assert len(mine) >= 40
    for scene, question in mine:
        assert answer(EYES[id(scene)], question) == question.answer, question


def test_only_one_thing_moves_the_way_that_moving_attribute_asks_about():
    """moving_count counts things that turn as moving; here they may be a second right answer among the options."""
    for scene, question in ASKED:
        if question.task == "moving_attribute":
            eye, way = EYES[id(scene)], question.text.removesuffix("?").split()[-1]
            ways = {name: {eye.way(name, 0, 1), eye.way(name, -2, -1)} for name in eye.colours if eye.moves(name)}
            assert [name for name, seen in ways.items() if way in seen] == [question.answer], question


def test_options_are_distinct_and_hold_the_answer():
    for _, question in ASKED:
        assert len(question.options) >= 2
        assert len(set(question.options)) == len(question.options)
        assert question.answer in question.options


def test_image_questions_are_answered_by_the_picture():
    asked = 0
    for number in range(100):
        scene = simulate(Dice("test", "image", number), 1)
        eye = Eye(render(scene, 1))
        for question in image_questions(scene, Dice("test", "asked", number)):
            asked += 1
            assert question.answer in question.options
            assert len(set(question.options)) == len(question.options) >= 2
            if question.task == "image_background":
                assert question.answer == eye.floor(0)
            elif question.task == "image_color":
                shape = question.text.removesuffix("?").split()[-1]
                assert [question.answer] == [name for name in eye.colours if eye.shape(name) == shape]
            else:
                assert question.answer == answer(eye, question)
    assert asked > 300


def test_captions_name_every_thing_and_the_floor():
    for scene in SCENES:
        eye, text = EYES[id(scene)], caption(scene)
        *deeds, floor = text.removesuffix(".").split(". ")
        assert len(deeds) == len(scene.things)
        assert floor.split()[-1] == eye.floor(-1)
        for deed in deeds:
            colour, shape = deed.split()[1:3]
            assert eye.shape(colour) == shape
            assert eye.moves(colour) == (" moves " in deed)
