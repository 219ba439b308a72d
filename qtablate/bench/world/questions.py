"""Questions about a scene, under MVBench's task names, and captions. All answers follow from the event log.

A new task is one function in TASKS. A question's options are drawn so that its text alone does not give the
answer away: where one option is the truth, every other option has the same standing among the options.
"""

from collections.abc import Callable
from dataclasses import dataclass

from qtablate.bench.world.scene import BACKGROUNDS, COLOURS, DIRECTIONS, OPPOSITE, SHAPES, WHEN, Scene, Thing
from qtablate.seeds import Dice

NUMBERS = ("zero", "one", "two", "three", "four")


@dataclass(frozen=True, slots=True)
class Question:
    task: str
    text: str
    options: tuple[str, ...]
    """In the order in which they are shown."""
    answer: str


def _ask(dice: Dice, task: str, text: str, options: list[str], answer: str) -> Question:
    return Question(task, text, tuple(dice.shuffled(options)), answer)


def _of_kind(scene: Scene, *kinds: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.kind in kinds]


def moving_direction(scene: Scene, dice: Dice) -> list[Question]:
    return [
        _ask(dice, "moving_direction", f"Which way does the {thing.name} move?", list(DIRECTIONS), thing.direction)
        for thing in _of_kind(scene, "move")
    ]


def moving_count(scene: Scene, dice: Dice) -> list[Question]:
    count = len(_of_kind(scene, "move", "turn"))
    return [_ask(dice, "moving_count", "How many things move?", list(NUMBERS[:4]), NUMBERS[count])] if count < 4 else []


def moving_attribute(scene: Scene, dice: Dice) -> list[Question]:
    out = []
    for direction in DIRECTIONS:
        movers = [t for t in _of_kind(scene, "move", "turn") if direction in (t.direction, t.then)]
        # a thing that turns moves that way too, so it may not be another answer
        if len(movers) == 1 and movers[0].kind == "move" and len(scene.things) > 1:
            options = [thing.colour for thing in scene.things]
            text = f"What color is the thing that moves {direction}?"
            out.append(_ask(dice, "moving_attribute", text, options, movers[0].colour))
    return out


def object_existence(scene: Scene, dice: Dice) -> list[Question]:
    names = {f"{thing.colour_at(f)} {thing.shape}" for thing in scene.things for f in range(len(thing.x))}
    if dice.chance(0.5):
        name, answer = dice.pick([thing.name for thing in scene.things]), "yes"
    else:
        absent = [f"{c} {s}" for c in COLOURS for s in SHAPES if f"{c} {s}" not in names]
        # half the time a colour that is there on another shape, so that colour alone does not decide
        seen = {thing.colour for thing in scene.things}
        near = [name for name in absent if name.split()[0] in seen]
        name, answer = dice.pick(near if dice.chance(0.5) else absent), "no"
    return [_ask(dice, "object_existence", f"Is there a {name}?", ["yes", "no"], answer)]


def action_sequence(scene: Scene, dice: Dice) -> list[Question]:
    out = []
    for thing in _of_kind(scene, "turn"):
        a, b = thing.direction, thing.then
        options = [f"{p} then {q}" for p, q in ((a, b), (b, a), (OPPOSITE[a], OPPOSITE[b]), (OPPOSITE[b], OPPOSITE[a]))]
        out.append(_ask(dice, "action_sequence", f"How does the {thing.name} go?", options, options[0]))
    return out


def action_count(scene: Scene, dice: Dice) -> list[Question]:
    return [
        _ask(dice, "action_count", f"How often does the {thing.name} blink?", list(NUMBERS[1:4]), NUMBERS[thing.times])
        for thing in _of_kind(scene, "blink")
    ]


def action_antonym(scene: Scene, dice: Dice) -> list[Question]:
    pairs = {"grow": "grows", "shrink": "shrinks", "appear": "appears", "vanish": "vanishes"}
    return [
        _ask(dice, "action_antonym", f"What does the {thing.name} do?", list(pairs.values()), pairs[thing.kind])
        for thing in _of_kind(scene, *pairs)
    ]


def action_localization(scene: Scene, dice: Dice) -> list[Question]:
    verbs = {"recolour": "change color", "appear": "appear", "vanish": "vanish"}
    return [
        _ask(dice, "action_localization", f"When does the {thing.name} {verbs[thing.kind]}?",
             ["early", "midway", "late"], WHEN[thing.at])
        for thing in _of_kind(scene, *verbs)
    ]  # fmt: skip


def state_change(scene: Scene, dice: Dice) -> list[Question]:
    out = []
    for thing in _of_kind(scene, "recolour"):
        there = {t.colour for t in scene.things} | {t.then for t in scene.things}
        options = [thing.then, *dice.sample([c for c in COLOURS if c not in there], 3)]
        if len(options) > 1:
            text = f"What color does the {thing.name} become?"
            out.append(_ask(dice, "state_change", text, options, thing.then))
    return out


def scene_transition(scene: Scene, dice: Dice) -> list[Question]:
    a, b = scene.background, scene.background_then
    if a == b:
        return []
    c, d = (name for name in BACKGROUNDS if name not in (a, b))
    options = [f"{p} to {q}" for p, q in ((a, b), (b, a), (c, d), (d, c))]
    return [_ask(dice, "scene_transition", "How does the background change?", options, options[0])]


def character_order(scene: Scene, dice: Dice) -> list[Question]:
    arrivals = sorted(_of_kind(scene, "appear"), key=lambda thing: thing.at)
    if len(arrivals) < 2:
        return []
    names = [thing.name for thing in arrivals]
    return [
        _ask(dice, "character_order", "Which thing appears first?", names, names[0]),
        _ask(dice, "character_order", "Which thing appears last?", names, names[-1]),
    ]


@dataclass(frozen=True, slots=True)
class Task:
    ask: Callable[[Scene, Dice], list[Question]]
    answers: tuple[str, ...] = ()
    """All answers, where there are few: a benchmark then holds equally many of each. Empty where the dice see to it."""


TASKS = {
    "action_sequence": Task(action_sequence),
    "action_antonym": Task(action_antonym, ("grows", "shrinks", "appears", "vanishes")),
    "object_existence": Task(object_existence, ("yes", "no")),
    "moving_direction": Task(moving_direction, tuple(DIRECTIONS)),
    "action_localization": Task(action_localization, ("early", "midway", "late")),
    "scene_transition": Task(scene_transition),
    "action_count": Task(action_count, NUMBERS[1:4]),
    "moving_count": Task(moving_count, NUMBERS[:4]),
    "moving_attribute": Task(moving_attribute, tuple(COLOURS)),
    "state_change": Task(state_change, tuple(COLOURS)),
    "character_order": Task(character_order),
}
"""In MVBench's order of tasks."""


def questions(scene: Scene, dice: Dice) -> list[Question]:
    """Every question of the video tasks that this scene can answer, in a random order."""
    return dice.shuffled([question for task in TASKS.values() for question in task.ask(scene, dice)])


def image_questions(scene: Scene, dice: Dice) -> list[Question]:
    """Questions about an image: what is there, and the color of each shape that is there once."""
    out = object_existence(scene, dice) + object_existence(scene, dice)
    for shape in SHAPES:
        owners = [thing for thing in scene.things if thing.shape == shape]
        if len(owners) == 1:
            options = [owners[0].colour, *dice.sample([c for c in COLOURS if c != owners[0].colour], 3)]
            out.append(_ask(dice, "image_color", f"What color is the {shape}?", options, owners[0].colour))
    text = "What color is the background?"
    out.append(_ask(dice, "image_background", text, list(BACKGROUNDS), scene.background))
    return dice.shuffled(out)


def caption(scene: Scene) -> str:
    """Everything that happens, in words: things by the name of their colour, then the background."""
    parts = [f"A {thing.name} {_deed(thing)}." for thing in sorted(scene.things, key=lambda t: t.colour)]
    if scene.background == scene.background_then:
        parts.append(f"The background is {scene.background}.")
    else:
        parts.append(f"The background goes {scene.background} to {scene.background_then}.")
    return " ".join(parts)


def _deed(thing: Thing) -> str:
    match thing.kind:
        case "move":
            return f"moves {thing.direction}"
        case "turn":
            return f"moves {thing.direction} then {thing.then}"
        case "blink":
            return f"blinks {NUMBERS[thing.times]}"
        case "recolour":
            return f"becomes {thing.then} {WHEN[thing.at]}"
        case "appear" | "vanish":
            return f"{thing.kind}{'es' if thing.kind == 'vanish' else 's'} {WHEN[thing.at]}"
        case "grow" | "shrink":
            return f"{thing.kind}s"
        case _:
            return "stays"
