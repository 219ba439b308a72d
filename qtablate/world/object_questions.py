"""Questions about objects, their relations and the scene as a whole. Each function asks all that its task can ask."""

from qtablate.seeds import Rng
from qtablate.world.collisions import initial_bodies, simulate_collisions
from qtablate.world.motion_questions import motion_is_clear
from qtablate.world.question import VERBS, Question, coin_position, make_question, other_colors, with_motion
from qtablate.world.scene import BACKGROUNDS, CAMERA, COLORS, DIRECTIONS, FRAMES, OPPOSITE, PLACES, Scene, SceneObject


def object_existence(scene: Scene, rng: Rng) -> list[Question]:
    """Ask whether an object of some color moves."""
    moving = [obj.color for obj in with_motion(scene, "move", "turn")]
    # colors of objects at rest, so that the color alone does not decide
    resting = [obj.color for obj in scene.objects if obj.color not in moving and obj.motion != "recolor"]
    if not (motion_is_clear(scene) and moving and resting):
        return []
    exists = rng.bernoulli(0.5)
    absent = [name for name in COLORS if name not in moving and name not in resting]
    color = rng.choice(moving if exists else resting if rng.bernoulli(0.8) else absent)
    text = f"Is there a {color} thing that moves?"
    return [make_question(rng, "object_existence", text, ["yes", "no"], "yes" if exists else "no")]


def object_interaction(scene: Scene, rng: Rng) -> list[Question]:
    """Ask which object hits which."""
    out = []
    for obj in with_motion(scene, "roll"):
        if len(scene.objects) > 2:
            text = f"Which thing does the {obj.name} hit?"
            out.append(make_question(rng, "object_interaction", text, other_colors(scene, obj), obj.partner))
            hit = next(other for other in scene.objects if other.color == obj.partner)
            text = f"Which thing hits the {hit.name}?"
            out.append(make_question(rng, "object_interaction", text, other_colors(scene, hit), obj.color))
    return out


def object_shuffle(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the last position of the coin."""
    if scene.coin_index is None:
        return []
    text = "Where is the coin at the end?"
    return [make_question(rng, "object_shuffle", text, list(PLACES), PLACES[coin_position(scene, -1)])]


def scene_transition(scene: Scene, rng: Rng) -> list[Question]:
    """Ask how the color of the background changes."""
    a, b = scene.background, scene.final_background
    if a == b:
        return []
    c, d = rng.shuffled([name for name in BACKGROUNDS if name not in (a, b)])
    options = [f"{p} to {q}" for p in (a, c) for q in (b, d)]
    return [make_question(rng, "scene_transition", "How does the background change?", options, options[0])]


def state_change(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the new color of an object; colors that other objects have are preferred as wrong options."""
    out = []
    for obj in with_motion(scene, "recolor"):
        present = {color for other in scene.objects for color in _both_colors(other)} - _both_colors(obj)
        near = rng.shuffled(sorted(present))
        far = rng.shuffled([color for color in COLORS if color not in near and color not in _both_colors(obj)])
        text = f"What color does the {obj.color} thing become?"  # its form would identify it in the last frame
        out.append(make_question(rng, "state_change", text, [obj.next_color, *[*near, *far][:3]], obj.next_color))
    return out


def _both_colors(obj: SceneObject) -> set[str]:
    return {obj.color, obj.color_at(FRAMES - 1)}


def character_order(scene: Scene, rng: Rng) -> list[Question]:
    """Ask which letter appears first, second and last."""
    arrivals = sorted(with_motion(scene, "appear"), key=lambda obj: obj.event_frame)
    if scene.scenario != "letters" or len(arrivals) < 3:
        return []
    names = [obj.name for obj in arrivals]
    return [
        make_question(rng, "character_order", "Which letter appears first?", names, names[0]),
        make_question(rng, "character_order", "Which letter appears second?", names, names[1]),
        make_question(rng, "character_order", "Which letter appears last?", names, names[-1]),
    ]


def egocentric_navigation(scene: Scene, rng: Rng) -> list[Question]:
    """Ask for the direction in which the camera moves."""
    if not scene.camera:
        return []
    return [make_question(rng, "egocentric_navigation", "Which way does the camera go?", list(CAMERA), scene.camera)]


def episodic_reasoning(scene: Scene, rng: Rng) -> list[Question]:
    """Ask which object's event comes right before or right after that of another one."""
    if scene.scenario != "episode":
        return []
    first, second, third = sorted((obj for obj in scene.objects if obj.event_frame), key=lambda obj: obj.event_frame)
    out = []
    for obj, word, answer in (
        (second, "after", third),
        (second, "before", first),
        (first, "after", second),
        (third, "before", second),
    ):
        text = f"What acts right {word} the {obj.name} {VERBS[obj.motion]}?"
        out.append(make_question(rng, "episodic_reasoning", text, other_colors(scene, obj), answer.color))
    return out


def counterfactual_inference(scene: Scene, rng: Rng) -> list[Question]:
    """Ask what an object would do if another one were not there. The answer is simulated without that one."""
    if scene.scenario != "push":
        return []
    # whether the object stays -> (object, removed object, direction without it)
    outcomes: dict[bool, list[tuple[SceneObject, SceneObject, str]]] = {True: [], False: []}
    for index, removed in enumerate(scene.objects):
        for obj, trajectory in zip(scene.objects, simulate_collisions(initial_bodies(scene, index)), strict=True):
            if trajectory is not None:
                outcomes[trajectory.direction == ""].append((obj, removed, trajectory.direction))
    out = []
    for _ in range(2):
        stays = rng.randrange(3) == 0  # as often as each of the two directions
        changed = [outcome for outcome in outcomes[stays] if outcome[2] != outcome[0].direction]
        obj, removed, direction = rng.choice(changed if changed and rng.bernoulli(0.6) else outcomes[stays])
        axis = direction or obj.direction or rng.choice(list(DIRECTIONS))
        options = ["stays", f"goes {axis}", f"goes {OPPOSITE[axis]}"]
        text = f"Without the {removed.name}, what would the {obj.name} do?"
        answer = f"goes {direction}" if direction else "stays"
        out.append(make_question(rng, "counterfactual_inference", text, options, answer))
    return out[:1] if out[0].text == out[1].text else out
