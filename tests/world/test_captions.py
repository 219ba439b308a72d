"""Captions describe what the pixels show."""

import itertools
import re

import numpy as np
from pixel_reader import COUNT, STEP, TIME_WORDS, PixelReader, question_scenes, readers

from qtablate.world.captions import caption
from qtablate.world.scenarios import SCENARIOS


def motion_words(reader: PixelReader, color: str, pushed: bool) -> str:
    """Describe an object's motion from the pixels, in the words of captions. With collisions objects `go`, else they `move`."""
    motion, path = reader.motion(color), reader.path(color)
    if motion in ("appears", "vanishes"):
        return f"{motion} {TIME_WORDS[reader.events()[color]]}"
    if motion == "changes":
        return f"becomes {reader.becomes(color)[0]} {TIME_WORDS[reader.events()[color]]}"
    if motion == "blinks":
        return f"blinks {COUNT[sum(a and not b for a, b in itertools.pairwise(reader.seen(color)))]}"
    if motion:
        return motion
    first = reader.way(color, 0, 1)
    if not pushed:
        if first and path[6] == path[7]:
            return f"{'returns' if path[0] == path[4] else 'loops'} {first} next {reader.next_way(color)}"
        return f"moves {reader.turns(color) or first}" if first else "stays"
    ((pusher, hit),) = reader.hits()
    if color == pusher:
        return f"goes {first} hits {hit}"
    if color == hit:
        return f"goes {reader.way(color)} after {pusher}" if reader.moves(hit) else f"stays after {pusher}"
    # an object is blocked by what it would touch with its next step
    onward = np.add(reader.path(hit)[0], [4 * part for part in STEP[reader.way(pusher, 0, 1)]])
    if not (first or reader.moves(hit)) and max(abs(onward - path[0])) < 7:
        return f"stays after {hit}"
    return f"goes {first}" if first else "stays"


def test_captions_agree_with_the_pixels():
    """Captions name all objects and motions by color, then the coin, the odd one out, the camera and the background."""
    for scene in question_scenes():
        reader, text = readers()[id(scene)], caption(scene)
        expected = []
        if scene.scenario == "cups":
            places = [("left", "middle", "right")[place] for place in reader.coin()]
            expected.append(f"The coin goes {places[0]} to {places[-1]}.")
        elif scene.scenario == "camera":  # what is out of view, or half of it, is named all the same
            objects = re.findall(r"A \w+ \w+ stays\.", text)
            assert len(objects) == len(scene.objects)
            assert {obj.split()[1] for obj in objects} >= set(reader.colors)
            expected += [*objects, f"The camera goes {reader.camera()}."]
        else:
            for name in sorted(reader.objects()):
                expected.append(f"A {name} {reader.form(name)} {motion_words(reader, name, scene.scenario == 'push')}.")
            if scene.scenario == "crowd":
                expected.append(f"Unlike the others is {reader.unlike()}.")
        first, last = reader.floor(0), reader.floor(-1)
        expected.append(f"The background is {first}." if first == last else f"The background goes {first} to {last}.")
        assert text == " ".join(expected)
    assert {scene.scenario for scene in question_scenes()} == set(SCENARIOS)
