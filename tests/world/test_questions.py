"""Every answer follows from the rendered pixels: a reader without the event log finds it."""

from collections import Counter
from functools import cache

import pytest
from pixel_reader import NAMED, PixelReader, answer, question_scenes, readers

from qtablate.seeds import Rng
from qtablate.world.levels import LEVELS
from qtablate.world.question import Question
from qtablate.world.questions import TASKS, image_questions, questions
from qtablate.world.scenarios import static_scene
from qtablate.world.scene import Scene, render


@cache
def all_questions() -> list[tuple[Scene, Question]]:
    """Every question about the shared scenes."""
    return [(scene, q) for n, scene in enumerate(question_scenes()) for q in questions(scene, Rng("test", "asked", n))]


@cache
def image_questions_with_readers() -> list[tuple[Question, PixelReader]]:
    """Questions about 60 static scenes of each level."""
    return [
        (question, PixelReader(render(scene, 1)))
        for level in LEVELS
        for number in range(60)
        for scene in [static_scene(Rng("test", "image", level, number), LEVELS[level])]
        for question in image_questions(scene, Rng("test", "asked", number))
    ]


def of_task(task: str) -> list[tuple[PixelReader, Question]]:
    return [(readers()[id(scene)], question) for scene, question in all_questions() if question.task == task]


@pytest.mark.parametrize("task", TASKS)
def test_reader_finds_every_answer_in_the_pixels(task):
    mine = of_task(task)
    assert len(mine) >= 40
    for reader, question in mine:
        assert answer(reader, question) == question.answer, question


ORDERED = ("moving_direction", "action_sequence", "action_prediction", "state_change", "egocentric_navigation")


@pytest.mark.parametrize("task", ORDERED)
def test_answers_depend_on_the_order_of_the_frames(task):
    """On the reversed clip the reader gives another answer or none."""
    other = 0
    for reader, question in of_task(task):
        try:
            other += answer(PixelReader(reader.clip[::-1]), question) != question.answer
        except (AssertionError, ValueError, KeyError, IndexError):
            other += 1
    assert other > 0.5 * len(of_task(task))


def test_counterfactual_answers_often_differ_from_what_happened():
    """A reader that reports what the object did, not what it would have done, is often wrong, for each answer."""
    wrong: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for reader, question in of_task("counterfactual_inference"):
        way, kind = reader.way(NAMED.findall(question.text)[-1][0]), question.answer.split()[0]
        asked[kind] += 1
        wrong[kind] += question.answer != (f"goes {way}" if way else "stays")
    assert wrong.total() > 0.2 * asked.total()
    assert min(wrong[kind] / asked[kind] for kind in ("goes", "stays")) > 0.15


def test_last_position_of_the_coin_often_differs_from_the_first():
    """A reader that reports the first position of the coin is often wrong."""
    stayed = [reader.coin()[0] == reader.coin()[-1] for reader, _ in of_task("object_shuffle")]
    assert 0.2 < sum(stayed) / len(stayed) < 0.62


def test_moving_attribute_has_one_correct_option():
    """An object that turns moves in two directions; it must not be a second correct option."""
    for reader, question in of_task("moving_attribute"):
        way = question.text.removesuffix("?").split()[-1]
        ways = {name: {reader.way(name, 0, 1), reader.way(name, -2, -1)} for name in reader.colors if reader.moves(name)}
        assert [name for name, seen in ways.items() if way in seen] == [question.answer], question


def test_no_object_sways_or_bounces_where_questions_ask_what_moves():
    """Whether swaying and bouncing is moving would be ambiguous."""
    for task in ("moving_count", "moving_attribute", "object_existence"):
        for reader, question in of_task(task):
            assert not {"sways", "bounces"} & {reader.motion(name) for name in reader.objects()}, question


def test_options_are_distinct_and_contain_the_answer():
    for _, question in all_questions():
        assert len(question.options) >= 2
        assert len(set(question.options)) == len(question.options)
        assert question.answer in question.options


def test_named_objects_are_in_the_clip():
    for scene, question in all_questions():
        reader, named = readers()[id(scene)], NAMED.findall(question.text)
        assert len({color for color, _ in named}) == len(named)
        assert all(form in ("thing", reader.form(color)) for color, form in named), question


def test_color_options_are_in_the_clip_where_an_object_is_asked_for():
    for task in ("unexpected_action", "object_interaction", "moving_attribute", "episodic_reasoning"):
        for reader, question in of_task(task):
            assert set(question.options) <= set(reader.objects()), question


def test_reader_finds_every_answer_about_images():
    kinds: Counter[str] = Counter()
    for question, reader in image_questions_with_readers():
        kinds[question.task] += 1
        assert question.answer in question.options
        assert len(set(question.options)) == len(question.options) >= 2
        forms = {name: reader.form(name) for name in reader.colors}
        if question.task == "image_background":
            assert question.answer == reader.floor(0)
        elif question.task == "image_color":
            form = question.text.removesuffix("?").split()[-1]
            assert [question.answer] == [name for name in reader.colors if forms[name] == form]
        else:
            color, form = question.text.removesuffix("?").split()[-2:]
            assert question.answer == ("yes" if forms.get(color) == form else "no")
    assert set(kinds) == {"image_background", "image_color", "image_existence"}
    assert min(kinds.values()) > 100


def test_form_alone_does_not_give_image_existence_away():
    """For each form, yes and no are both frequent, so that a reader without pixels gains nothing from it."""
    answers: dict[str, Counter[str]] = {}
    for question, _ in image_questions_with_readers():
        if question.task == "image_existence":
            answers.setdefault(question.text.removesuffix("?").split()[-1], Counter())[question.answer] += 1
    assert len(answers) > 4
    for form, counts in answers.items():
        assert 0.2 < counts["yes"] / counts.total() < 0.8, (form, counts)
