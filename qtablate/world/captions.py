"""Captions: a text that names every event of a scene."""

from collections.abc import Callable

from qtablate.world.question import NUMBER_WORDS, VERBS, coin_position
from qtablate.world.scene import PLACES, TIME_WORDS, Scene, SceneObject

_PREDICATES: dict[str, Callable[[SceneObject], str]] = {
    "still": lambda obj: "stays",
    "move": lambda obj: f"moves {obj.direction}",
    "turn": lambda obj: f"moves {obj.direction} then {obj.next_direction}",
    "loop": lambda obj: f"loops {obj.direction} next {obj.next_direction}",
    "shuttle": lambda obj: f"returns {obj.direction} next {obj.next_direction}",
    "blink": lambda obj: f"blinks {NUMBER_WORDS[obj.blink_count]}",
    "recolor": lambda obj: f"becomes {obj.next_color} {TIME_WORDS[obj.event_frame]}",
    "appear": lambda obj: f"appears {TIME_WORDS[obj.event_frame]}",
    "vanish": lambda obj: f"vanishes {TIME_WORDS[obj.event_frame]}",
    "roll": lambda obj: f"goes {obj.direction} hits {obj.partner}",
    "cross": lambda obj: f"goes {obj.direction}",
    "hit": lambda obj: f"goes {obj.direction} after {obj.partner}",
    "blocked": lambda obj: f"stays after {obj.partner}",
}
"""Predicates of motions that have details beside their verb in VERBS."""


def caption(scene: Scene) -> str:
    """Describe the objects in the order of their color names, then the odd one out, the camera and the background."""
    sentences = []
    if scene.coin_index is not None:
        sentences.append(f"The coin goes {PLACES[coin_position(scene, 0)]} to {PLACES[coin_position(scene, -1)]}.")
    else:
        objects = sorted(scene.objects, key=lambda obj: obj.color)
        sentences += [f"A {obj.name} {_predicate(obj)}." for obj in objects]
    if scene.odd_index is not None:
        sentences.append(f"Unlike the others is {scene.objects[scene.odd_index].color}.")
    if scene.camera:
        sentences.append(f"The camera goes {scene.camera}.")
    if scene.background == scene.final_background:
        sentences.append(f"The background is {scene.background}.")
    else:
        sentences.append(f"The background goes {scene.background} to {scene.final_background}.")
    return " ".join(sentences)


def _predicate(obj: SceneObject) -> str:
    return _PREDICATES[obj.motion](obj) if obj.motion in _PREDICATES else VERBS[obj.motion]
