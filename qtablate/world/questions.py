"""Questions about a scene under MVBench's 20 task names. All answers follow from the event log.

A new task is one function in TASKS. A question's options are drawn so that its text alone does not give the
answer away: where one option is the truth, every other option has the same standing among the options.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtablate.seeds import Rng
from qtablate.world.scenarios import bodies_of, roll
from qtablate.world.scene import (
    BACKGROUNDS,
    CAMERA,
    COLOURS,
    DIRECTIONS,
    FRAMES,
    LETTERS,
    OPPOSITE,
    PLACES,
    SHAPES,
    WHEN,
    Scene,
    Thing,
)

NUMBERS = ("zero", "one", "two", "three", "four")
DOES = {
    "grow": "grows",
    "shrink": "shrinks",
    "appear": "appears",
    "vanish": "vanishes",
    "sway": "sways",
    "bounce": "bounces",
    "pulse": "pulses",
    "blink": "blinks",
    "raise": "raises",
    "lower": "lowers",
    "wave": "waves",
    "flap": "flaps",
    "recolour": "changes",
}
"""What a deed is called, of the things that do it."""


@dataclass(frozen=True, slots=True)
class Question:
    task: str
    text: str
    options: tuple[str, ...]
    """In the order in which they are shown."""
    answer: str


def _ask(rng: Rng, task: str, text: str, options: Sequence[str], answer: str) -> Question:
    return Question(task, text, tuple(rng.shuffled(options)), answer)


def _of_deed(scene: Scene, *deeds: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.deed in deeds]


def _others(scene: Scene, thing: Thing) -> list[str]:
    return [other.colour for other in scene.things if other is not thing]


def _plain(scene: Scene) -> bool:
    """Whether it is clear in this scene what moves: nothing sways or bounces in place, and nothing is pushed."""
    return scene.story in ("traffic", "medley") and not _of_deed(scene, "sway", "bounce")


def _which_deed(task: str, *deeds: str) -> Callable[[Scene, Rng], list[Question]]:
    """`What does the ... do?` with these deeds as options."""

    def ask(scene: Scene, rng: Rng) -> list[Question]:
        options = [DOES[deed] for deed in deeds]
        return [
            _ask(rng, task, f"What does the {thing.name} do?", options, DOES[thing.deed])
            for thing in _of_deed(scene, *deeds)
            if scene.story != "letters"  # they only ever appear, so that the question would tell the answer
        ]

    return ask


def action_sequence(scene: Scene, rng: Rng) -> list[Question]:
    out = []
    for thing in _of_deed(scene, "turn"):
        a, b = thing.direction, thing.then
        options = [f"{p} then {q}" for p, q in ((a, b), (b, a), (OPPOSITE[a], OPPOSITE[b]), (OPPOSITE[b], OPPOSITE[a]))]
        out.append(_ask(rng, "action_sequence", f"How does the {thing.name} go?", options, options[0]))
    return out


def action_prediction(scene: Scene, rng: Rng) -> list[Question]:
    return [
        _ask(rng, "action_prediction", f"Which way will the {thing.name} go next?", list(DIRECTIONS), thing.then)
        for thing in _of_deed(scene, "loop", "shuttle")
    ]


def unexpected_action(scene: Scene, rng: Rng) -> list[Question]:
    if scene.odd < 0:
        return []
    options = [thing.colour for thing in scene.things]
    text = "Which thing acts unlike the others?"
    return [_ask(rng, "unexpected_action", text, options, scene.things[scene.odd].colour)]


def object_existence(scene: Scene, rng: Rng) -> list[Question]:
    moving = [thing.colour for thing in _of_deed(scene, "move", "turn")]
    # a colour that something still has, so that the colour alone does not decide
    near = [thing.colour for thing in scene.things if thing.colour not in moving and thing.deed != "recolour"]
    if not (_plain(scene) and moving and near):
        return []
    there = rng.bernoulli(0.5)
    absent = [name for name in COLOURS if name not in moving and name not in near]
    colour = rng.choice(moving if there else near if rng.bernoulli(0.8) else absent)
    text = f"Is there a {colour} thing that moves?"
    return [_ask(rng, "object_existence", text, ["yes", "no"], "yes" if there else "no")]


def object_interaction(scene: Scene, rng: Rng) -> list[Question]:
    out = []
    for thing in _of_deed(scene, "roll"):
        if len(scene.things) > 2:
            text = f"Which thing does the {thing.name} hit?"
            out.append(_ask(rng, "object_interaction", text, _others(scene, thing), thing.partner))
            hit = next(other for other in scene.things if other.colour == thing.partner)
            text = f"Which thing hits the {hit.name}?"
            out.append(_ask(rng, "object_interaction", text, _others(scene, hit), thing.colour))
    return out


def object_shuffle(scene: Scene, rng: Rng) -> list[Question]:
    if scene.coin < 0:
        return []
    text = "Where is the coin at the end?"
    return [_ask(rng, "object_shuffle", text, list(PLACES), PLACES[coin_place(scene, -1)])]


def coin_place(scene: Scene, frame: int) -> int:
    """0, 1 or 2: which cup from the left has the coin."""
    return sorted(range(3), key=lambda number: scene.things[number].x[frame]).index(scene.coin)


def moving_direction(scene: Scene, rng: Rng) -> list[Question]:
    return [
        _ask(rng, "moving_direction", f"Which way does the {thing.name} move?", list(DIRECTIONS), thing.direction)
        for thing in _of_deed(scene, "move")
    ]


def action_localization(scene: Scene, rng: Rng) -> list[Question]:
    verbs = {"recolour": "change", "appear": "appear", "vanish": "vanish"}
    return [
        _ask(
            rng,
            "action_localization",
            f"When does the {thing.name} {verbs[thing.deed]}?",
            ["early", "midway", "late"],
            WHEN[thing.at],
        )
        for thing in _of_deed(scene, *verbs)
    ]


def scene_transition(scene: Scene, rng: Rng) -> list[Question]:
    a, b = scene.background, scene.background_then
    if a == b:
        return []
    c, d = rng.shuffled([name for name in BACKGROUNDS if name not in (a, b)])
    options = [f"{p} to {q}" for p in (a, c) for q in (b, d)]
    return [_ask(rng, "scene_transition", "How does the background change?", options, options[0])]


def action_count(scene: Scene, rng: Rng) -> list[Question]:
    return [
        _ask(rng, "action_count", f"How often does the {thing.name} blink?", list(NUMBERS[1:4]), NUMBERS[thing.times])
        for thing in _of_deed(scene, "blink")
    ]


def moving_count(scene: Scene, rng: Rng) -> list[Question]:
    count = len(_of_deed(scene, "move", "turn"))
    if not _plain(scene) or count > 3:
        return []
    return [_ask(rng, "moving_count", "How many things move?", list(NUMBERS[:4]), NUMBERS[count])]


def moving_attribute(scene: Scene, rng: Rng) -> list[Question]:
    out = []
    for direction in DIRECTIONS if _plain(scene) else ():
        movers = [t for t in _of_deed(scene, "move", "turn") if direction in (t.direction, t.then)]
        # a thing that turns moves that way too, so it may not be another answer
        if len(movers) == 1 and movers[0].deed == "move" and len(scene.things) > 1:
            options = [thing.colour for thing in scene.things]
            text = f"What color is the thing that moves {direction}?"
            out.append(_ask(rng, "moving_attribute", text, options, movers[0].colour))
    return out


def state_change(scene: Scene, rng: Rng) -> list[Question]:
    out = []
    for thing in _of_deed(scene, "recolour"):
        near = rng.shuffled(sorted({color for other in scene.things for color in _colours(other)} - _colours(thing)))
        far = rng.shuffled([color for color in COLOURS if color not in near and color not in _colours(thing)])
        text = f"What color does the {thing.colour} thing become?"  # its form would tell which one it is at the end
        out.append(_ask(rng, "state_change", text, [thing.then, *[*near, *far][:3]], thing.then))
    return out


def _colours(thing: Thing) -> set[str]:
    return {thing.colour, thing.colour_at(FRAMES - 1)}


def character_order(scene: Scene, rng: Rng) -> list[Question]:
    arrivals = sorted(_of_deed(scene, "appear"), key=lambda thing: thing.at)
    if scene.story != "letters" or len(arrivals) < 3:
        return []
    names = [thing.name for thing in arrivals]
    return [
        _ask(rng, "character_order", "Which letter appears first?", names, names[0]),
        _ask(rng, "character_order", "Which letter appears second?", names, names[1]),
        _ask(rng, "character_order", "Which letter appears last?", names, names[-1]),
    ]


def egocentric_navigation(scene: Scene, rng: Rng) -> list[Question]:
    if not scene.camera:
        return []
    return [_ask(rng, "egocentric_navigation", "Which way does the camera go?", list(CAMERA), scene.camera)]


def episodic_reasoning(scene: Scene, rng: Rng) -> list[Question]:
    """What follows, or goes before, an event of another thing."""
    if scene.story != "episode":
        return []
    first, second, third = sorted((t for t in scene.things if t.at), key=lambda thing: thing.at)
    out = []
    for thing, word, answer in (
        (second, "after", third),
        (second, "before", first),
        (first, "after", second),
        (third, "before", second),
    ):
        text = f"What acts right {word} the {thing.name} {DOES[thing.deed]}?"
        out.append(_ask(rng, "episodic_reasoning", text, _others(scene, thing), answer.colour))
    return out


def counterfactual_inference(scene: Scene, rng: Rng) -> list[Question]:
    """What a thing would do if another one were not there: told by running the scene again without it."""
    if scene.story != "push":
        return []
    found: dict[bool, list[tuple[Thing, Thing, str]]] = {True: [], False: []}
    for gone, without in enumerate(scene.things):
        for thing, then in zip(scene.things, roll(bodies_of(scene, gone)), strict=True):
            if then is not None:
                found[then.direction == ""].append((thing, without, then.direction))
    out = []
    for _ in range(2):
        stays = rng.randrange(3) == 0  # as often as each of the two directions
        changed = [one for one in found[stays] if one[2] != one[0].direction]
        thing, without, direction = rng.choice(changed if changed and rng.bernoulli(0.6) else found[stays])
        way = direction or thing.direction or rng.choice(list(DIRECTIONS))
        options = ["stays", f"goes {way}", f"goes {OPPOSITE[way]}"]
        text = f"Without the {without.name}, what would the {thing.name} do?"
        out.append(_ask(rng, "counterfactual_inference", text, options, f"goes {direction}" if direction else "stays"))
    return out[:1] if out[0].text == out[1].text else out


@dataclass(frozen=True, slots=True)
class Task:
    ask: Callable[[Scene, Rng], list[Question]]
    answers: tuple[str, ...] = ()
    """All answers, where there are few: a benchmark then holds equally many of each. Empty where random draws balance them."""


_ANTONYMS = ("grow", "shrink", "appear", "vanish")
_FIDGETS = ("sway", "bounce", "pulse", "blink")
_POSES = ("raise", "lower", "wave", "flap")


def _names(deeds: Sequence[str]) -> tuple[str, ...]:
    return tuple(DOES[deed] for deed in deeds)


TASKS = {
    "action_sequence": Task(action_sequence),
    "action_prediction": Task(action_prediction, tuple(DIRECTIONS)),
    "action_antonym": Task(_which_deed("action_antonym", *_ANTONYMS), _names(_ANTONYMS)),
    "fine_grained_action": Task(_which_deed("fine_grained_action", *_FIDGETS), _names(_FIDGETS)),
    "unexpected_action": Task(unexpected_action, tuple(COLOURS)),
    "object_existence": Task(object_existence, ("yes", "no")),
    "object_interaction": Task(object_interaction, tuple(COLOURS)),
    "object_shuffle": Task(object_shuffle, PLACES),
    "moving_direction": Task(moving_direction, tuple(DIRECTIONS)),
    "action_localization": Task(action_localization, ("early", "midway", "late")),
    "scene_transition": Task(scene_transition),
    "action_count": Task(action_count, NUMBERS[1:4]),
    "moving_count": Task(moving_count, NUMBERS[:4]),
    "moving_attribute": Task(moving_attribute, tuple(COLOURS)),
    "state_change": Task(state_change, tuple(COLOURS)),
    "fine_grained_pose": Task(_which_deed("fine_grained_pose", *_POSES), _names(_POSES)),
    "character_order": Task(character_order),
    "egocentric_navigation": Task(egocentric_navigation, CAMERA),
    "episodic_reasoning": Task(episodic_reasoning, tuple(COLOURS)),
    "counterfactual_inference": Task(counterfactual_inference),
}
"""MVBench's tasks in its order."""


def questions(scene: Scene, rng: Rng) -> list[Question]:
    """Every question of the video tasks that this scene can answer, in a random order."""
    return rng.shuffled([question for task in TASKS.values() for question in task.ask(scene, rng)])


def image_questions(scene: Scene, rng: Rng) -> list[Question]:
    """Questions about an image: what is there, of which color, and what is behind it."""
    names = {thing.name for thing in scene.things}
    seen = {thing.colour for thing in scene.things}
    absent = [f"{c} {s}" for c in COLOURS for s in (*SHAPES, *LETTERS) if f"{c} {s}" not in names]
    near = [name for name in absent if name.split()[0] in seen]
    out = []
    for there in (True, False):
        name = rng.choice(sorted(names) if there else near if rng.bernoulli(0.5) else absent)
        out.append(_ask(rng, "image_existence", f"Is there a {name}?", ["yes", "no"], "yes" if there else "no"))
    for form in {thing.form: 0 for thing in scene.things}:
        owners = [thing for thing in scene.things if thing.form == form]
        if len(owners) == 1:
            options = [owners[0].colour, *rng.sample([c for c in COLOURS if c != owners[0].colour], 3)]
            out.append(_ask(rng, "image_color", f"What color is the {form}?", options, owners[0].colour))
    text = "What color is the background?"
    out.append(_ask(rng, "image_background", text, list(BACKGROUNDS), scene.background))
    return rng.shuffled(out)
