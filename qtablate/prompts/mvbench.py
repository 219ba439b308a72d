"""MVBench's multiple choice: how options are listed, how an answer begins, and how a generated one is read.

Facts: OpenGVLab/Ask-Anything video_chat2 `mvbench.ipynb`, restated in shared facts; the texts are the protocol's.
"""

import re
from collections.abc import Sequence

SYSTEM = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of objects, "
    "and the action and pose of persons. Based on your observations, select the best option that accurately addresses the "
    "question.\n"
)
"""Said before all, said again before every question, and read by the Q-Former."""
START = "Best option:("
"""What the answer is made to begin with."""
SCORERS = ("likelihood", "letter", "generate", "circular")
"""likelihood: of each option's text; letter: of its letter behind START; generate: a greedy answer, read by `strict`; circular:
by letter in every rotation of the options, right only where all are."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MOST_TOKENS = 100
"""Tokens of a generated answer at most."""

MEDIA_ROOTS = {
    "action_sequence": "star/Charades_v1_480",
    "action_prediction": "star/Charades_v1_480",
    "action_antonym": "ssv2_video",
    "fine_grained_action": "Moments_in_Time_Raw/videos",
    "unexpected_action": "FunQA_test/test",
    "object_existence": "clevrer/video_validation",
    "object_interaction": "star/Charades_v1_480",
    "object_shuffle": "perception/videos",
    "moving_direction": "clevrer/video_validation",
    "action_localization": "sta/sta_video",
    "scene_transition": "scene_qa/video",
    "action_count": "perception/videos",
    "moving_count": "clevrer/video_validation",
    "moving_attribute": "clevrer/video_validation",
    "state_change": "perception/videos",
    "fine_grained_pose": "nturgbd",
    "character_order": "perception/videos",
    "egocentric_navigation": "vlnqa",
    "episodic_reasoning": "tvqa/frames_fps3_hq",
    "counterfactual_inference": "clevrer/video_validation",
}
"""MVBench's 20 tasks in the notebook's order, and where each keeps its clips."""

PUBLISHED = {
    "VideoChat2, Vicuna, stage 3 (arXiv 2311.17005)": 51.1,
    "the same, a user's run of the released weights (Ask-Anything#90)": 50.975,
    "VideoChat2, Mistral, stage 3": 60.4,
    "VideoChat2, Mistral, HD stage 4": 62.3,
}
"""Average over MVBench's 20 tasks, 16 frames, %."""


def listed(question: str, options: Sequence[str]) -> str:
    """A question with its options, lettered in their order."""
    lines = [f"Question: {question}", "Options:", *(f"({LETTERS[n]}) {option}" for n, option in enumerate(options))]
    return "\n".join(lines).rstrip() + "\nOnly give the best option."


def strict(text: str, options: Sequence[str]) -> int:
    """Which option a generated answer names; -1 where it names none: neither a letter that stands alone, nor an option's own
    text. `text` goes on from START."""
    said = text.strip()
    if found := re.match(r"\(?([A-Za-z])(?![A-Za-z0-9])", said):
        place = LETTERS.index(found[1].upper())
        return place if place < len(options) else -1
    bare = said.lstrip("(").rstrip(".").lower()
    named = [place for place, option in enumerate(options) if bare == option.rstrip(".").lower()]
    return named[0] if len(named) == 1 else -1


def upstream(text: str, gold: int) -> bool:
    """Whether the original calls a generated answer right: it puts "(" in front and checks that."""
    return check(f"({text}", gold)


def check(said: str, gold: int) -> bool:
    """The original's `check_ans`, which can be cheated: "", "(", ")" and "." are right whatever the gold option is, and an
    empty generation becomes "(". Kept to compare with published numbers."""
    first, letter = said.lower().split(" ")[0], f"({LETTERS[gold]})".lower()
    return first.replace(".", "") in letter or letter in first


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]
