"""The question type, and what all questions and captions share: words, and access to the objects of a scene."""

from collections.abc import Sequence
from dataclasses import dataclass

from qtablate.seeds import Rng
from qtablate.world.scene import Scene, SceneObject

NUMBER_WORDS = ("zero", "one", "two", "three", "four")
VERBS = {
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
    "recolor": "changes",
}
"""Motion -> its verb in questions and captions, for motions that a single verb describes."""


@dataclass(frozen=True, slots=True)
class Question:
    """A multiple-choice question about one scene. Benchmark fingerprints contain its `repr`: keep names and order of fields."""

    task: str
    text: str
    options: tuple[str, ...]
    """Options in the order in which they are shown."""
    answer: str
    """The gold option."""


def make_question(rng: Rng, task: str, text: str, options: Sequence[str], answer: str) -> Question:
    """Return a question with its options in random order."""
    return Question(task, text, tuple(rng.shuffled(options)), answer)


def with_motion(scene: Scene, *motions: str) -> list[SceneObject]:
    """Return the objects whose motion is one of these."""
    return [obj for obj in scene.objects if obj.motion in motions]


def other_colors(scene: Scene, obj: SceneObject) -> list[str]:
    """Return the colors of all other objects."""
    return [other.color for other in scene.objects if other is not obj]


def coin_position(scene: Scene, frame: int) -> int:
    """Return the position of the cup with the coin: 0, 1 or 2 from the left. The scene must hold three cups and a coin."""
    order = sorted(range(3), key=lambda number: scene.objects[number].x[frame])
    return next(position for position, number in enumerate(order) if number == scene.coin_index)
