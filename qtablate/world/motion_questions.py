"""Questions about how an object moves, how often and when. Each function asks all that its task can ask of a scene."""

from collections.abc import Callable

from qtablate.seeds import Rng
from qtablate.world.question import NUMBER_WORDS, VERBS, Question, make_question, with_motion
from qtablate.world.scene import DIRECTIONS, OPPOSITE, TIME_WORDS, Scene


def motion_is_clear(scene: Scene) -> bool:
    """Whether it is unambiguous which objects move: no object sways or bounces in place, and none is pushed."""
    return scene.scenario in ("traffic", "medley") and not with_motion(scene, "sway", "bounce")


def which_motion(task: str, *motions: str) -> Callable[[Scene, Rng], list[Question]]:
    """Return the function of a task that asks `What does the ... do?` with the verbs of these motions as options."""

    def ask(scene: Scene, rng: Rng) -> list[Question]:
        if scene.scenario == "letters":  # letters only ever appear: the question would give the answer away
            return []
        options = [VERBS[motion] for motion in motions]
        return [
            make_question(rng, task, f"What does the {obj.name} do?", options, VERBS[obj.motion])
            for obj in with_motion(scene, *motions)
        ]

    return ask


def action_sequence(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for both directions of an object that turns."""
    out = []
    for obj in with_motion(scene, "turn"):
        a, b = obj.direction, obj.next_direction
        options = [f"{p} then {q}" for p, q in ((a, b), (b, a), (OPPOSITE[a], OPPOSITE[b]), (OPPOSITE[b], OPPOSITE[a]))]
        out.append(make_question(rng, "action_sequence", f"How does the {obj.name} go?", options, options[0]))
    return out


def action_prediction(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the direction in which a periodic motion continues after the clip."""
    return [
        make_question(rng, "action_prediction", f"Which way will the {obj.name} go next?", list(DIRECTIONS), obj.next_direction)
        for obj in with_motion(scene, "loop", "shuttle")
    ]


def unexpected_action(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the object whose motion differs from all others."""
    if scene.odd_index is None:
        return []
    options = [obj.color for obj in scene.objects]
    text = "Which thing acts unlike the others?"
    return [make_question(rng, "unexpected_action", text, options, scene.objects[scene.odd_index].color)]


def moving_direction(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the direction of an object that moves straight on."""
    return [
        make_question(rng, "moving_direction", f"Which way does the {obj.name} move?", list(DIRECTIONS), obj.direction)
        for obj in with_motion(scene, "move")
    ]


def action_localization(scene: Scene, rng: Rng) -> list[Question]:
    """Ask when an object changes its color, appears or vanishes."""
    verbs = {"recolor": "change", "appear": "appear", "vanish": "vanish"}
    times = ["early", "midway", "late"]
    return [
        make_question(
            rng,
            "action_localization",
            f"When does the {obj.name} {verbs[obj.motion]}?",
            times,
            TIME_WORDS[obj.event_frame],
        )
        for obj in with_motion(scene, *verbs)
    ]


def action_count(scene: Scene, rng: Rng) -> list[Question]:
    """Ask how often an object blinks."""
    return [
        make_question(
            rng,
            "action_count",
            f"How often does the {obj.name} blink?",
            list(NUMBER_WORDS[1:4]),
            NUMBER_WORDS[obj.blink_count],
        )
        for obj in with_motion(scene, "blink")
    ]


def moving_count(scene: Scene, rng: Rng) -> list[Question]:
    """Ask how many objects move, up to three."""
    count = len(with_motion(scene, "move", "turn"))
    if not motion_is_clear(scene) or count > 3:
        return []
    return [make_question(rng, "moving_count", "How many things move?", list(NUMBER_WORDS[:4]), NUMBER_WORDS[count])]


def moving_attribute(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the color of the only object that moves in a direction."""
    out = []
    for direction in DIRECTIONS if motion_is_clear(scene) else ():
        movers = [obj for obj in with_motion(scene, "move", "turn") if direction in (obj.direction, obj.next_direction)]
        # an object that turns moves in this direction too, so it must not be a second correct answer
        if len(movers) == 1 and movers[0].motion == "move" and len(scene.objects) > 1:
            options = [obj.color for obj in scene.objects]
            text = f"What color is the thing that moves {direction}?"
            out.append(make_question(rng, "moving_attribute", text, options, movers[0].color))
    return out
