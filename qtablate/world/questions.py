"""Questions about a scene under MVBench's 20 task names. All answers follow from the event log.

A new task is one function in TASKS. The options of a question are drawn so that its text alone does not give the answer
away: the correct option has the same relation to the other options as each of them has.
"""

from collections.abc import Callable
from dataclasses import dataclass

from qtablate.seeds import Rng
from qtablate.world import motion_questions as motion
from qtablate.world import object_questions as objects
from qtablate.world.question import NUMBER_WORDS, VERBS, Question, make_question
from qtablate.world.scene import BACKGROUNDS, CAMERA, COLORS, DIRECTIONS, LETTERS, PLACES, SHAPES, Scene


@dataclass(frozen=True, slots=True)
class Task:
    """One of MVBench's tasks."""

    ask: Callable[[Scene, Rng], list[Question]]
    """Returns all questions of the task about a scene; none where the scene cannot answer any."""
    answers: tuple[str, ...] = ()
    """All answers, for tasks with few: a benchmark then holds equally many of each. Empty where random draws balance them."""


def _choose_motion(task: str, *motions: str) -> Task:
    return Task(motion.which_motion(task, *motions), tuple(VERBS[name] for name in motions))


TASKS = {
    "action_sequence": Task(motion.action_sequence),
    "action_prediction": Task(motion.action_prediction, tuple(DIRECTIONS)),
    "action_antonym": _choose_motion("action_antonym", "grow", "shrink", "appear", "vanish"),
    "fine_grained_action": _choose_motion("fine_grained_action", "sway", "bounce", "pulse", "blink"),
    "unexpected_action": Task(motion.unexpected_action, tuple(COLORS)),
    "object_existence": Task(objects.object_existence, ("yes", "no")),
    "object_interaction": Task(objects.object_interaction, tuple(COLORS)),
    "object_shuffle": Task(objects.object_shuffle, PLACES),
    "moving_direction": Task(motion.moving_direction, tuple(DIRECTIONS)),
    "action_localization": Task(motion.action_localization, ("early", "midway", "late")),
    "scene_transition": Task(objects.scene_transition),
    "action_count": Task(motion.action_count, NUMBER_WORDS[1:4]),
    "moving_count": Task(motion.moving_count, NUMBER_WORDS[:4]),
    "moving_attribute": Task(motion.moving_attribute, tuple(COLORS)),
    "state_change": Task(objects.state_change, tuple(COLORS)),
    "fine_grained_pose": _choose_motion("fine_grained_pose", "raise", "lower", "wave", "flap"),
    "character_order": Task(objects.character_order),
    "egocentric_navigation": Task(objects.egocentric_navigation, CAMERA),
    "episodic_reasoning": Task(objects.episodic_reasoning, tuple(COLORS)),
    "counterfactual_inference": Task(objects.counterfactual_inference),
}
"""MVBench's tasks in its order."""


def questions(scene: Scene, rng: Rng) -> list[Question]:
    """Return every question of the video tasks that this scene can answer, in random order."""
    return rng.shuffled([question for task in TASKS.values() for question in task.ask(scene, rng)])


def image_questions(scene: Scene, rng: Rng) -> list[Question]:
    """Return questions about a static scene: which objects exist, their colors and the background."""
    names = {obj.name for obj in scene.objects}
    present_colors = {obj.color for obj in scene.objects}
    absent = [f"{color} {form}" for color in COLORS for form in (*SHAPES, *LETTERS) if f"{color} {form}" not in names]
    near = [name for name in absent if name.split()[0] in present_colors]
    out = []
    for exists in (True, False):
        name = rng.choice(sorted(names) if exists else near if rng.bernoulli(0.5) else absent)
        out.append(make_question(rng, "image_existence", f"Is there a {name}?", ["yes", "no"], "yes" if exists else "no"))
    for form in {obj.form: 0 for obj in scene.objects}:
        owners = [obj for obj in scene.objects if obj.form == form]
        if len(owners) == 1:
            options = [owners[0].color, *rng.sample([color for color in COLORS if color != owners[0].color], 3)]
            out.append(make_question(rng, "image_color", f"What color is the {form}?", options, owners[0].color))
    text = "What color is the background?"
    out.append(make_question(rng, "image_background", text, list(BACKGROUNDS), scene.background))
    return rng.shuffled(out)
