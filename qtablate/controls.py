"""The controls that every item is asked under: the one list of their names. evaluate/controls.py applies them.

This module imports nothing of its own, so that the command line and the report can read the names without torch.
"""

from typing import Literal, get_args

Control = Literal["blind", "middle", "shuffled", "reversed", "mismatched_clip"]
FULL = "full"
"""No control: the clip as it is."""
BLIND, MIDDLE, SHUFFLED, REVERSED, MISMATCHED_CLIP = get_args(Control)

CONTROLS: dict[str, str] = {
    BLIND: "a clip of the mean color",
    MIDDLE: "the middle frame throughout",
    SHUFFLED: "frames in another order",
    REVERSED: "the clip backwards",
    MISMATCHED_CLIP: "another item's clip",
}
"""Each control and what the model sees under it, in the order of all tables."""
