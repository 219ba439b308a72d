"""Captions: everything that happens in a scene, in words."""

from collections.abc import Callable

from qtablate.world.questions import DOES, NUMBERS, coin_place
from qtablate.world.scene import PLACES, WHEN, Scene, Thing

_SENTENCES: dict[str, Callable[[Thing], str]] = {
    "still": lambda thing: "stays",
    "move": lambda thing: f"moves {thing.direction}",
    "turn": lambda thing: f"moves {thing.direction} then {thing.then}",
    "loop": lambda thing: f"loops {thing.direction} next {thing.then}",
    "shuttle": lambda thing: f"returns {thing.direction} next {thing.then}",
    "blink": lambda thing: f"blinks {NUMBERS[thing.times]}",
    "recolour": lambda thing: f"becomes {thing.then} {WHEN[thing.at]}",
    "appear": lambda thing: f"appears {WHEN[thing.at]}",
    "vanish": lambda thing: f"vanishes {WHEN[thing.at]}",
    "roll": lambda thing: f"goes {thing.direction} hits {thing.partner}",
    "cross": lambda thing: f"goes {thing.direction}",
    "hit": lambda thing: f"goes {thing.direction} after {thing.partner}",
    "held": lambda thing: f"stays after {thing.partner}",
}
"""What is said of a deed where its name alone does not say everything."""


def caption(scene: Scene) -> str:
    """Things in the order of their colors' names, then what belongs to the whole scene."""
    parts = []
    if scene.coin >= 0:
        parts.append(f"The coin goes {PLACES[coin_place(scene, 0)]} to {PLACES[coin_place(scene, -1)]}.")
    else:
        parts += [f"A {thing.name} {_deed(thing)}." for thing in sorted(scene.things, key=lambda thing: thing.colour)]
    if scene.odd >= 0:
        parts.append(f"Unlike the others is {scene.things[scene.odd].colour}.")
    if scene.camera:
        parts.append(f"The camera goes {scene.camera}.")
    if scene.background == scene.background_then:
        parts.append(f"The background is {scene.background}.")
    else:
        parts.append(f"The background goes {scene.background} to {scene.background_then}.")
    return " ".join(parts)


def _deed(thing: Thing) -> str:
    return _SENTENCES[thing.deed](thing) if thing.deed in _SENTENCES else DOES[thing.deed]
