"""MVBench's multiple-choice protocol: its texts, the prompt with listed options, and parsers of generated answers.

Source: OpenGVLab/Ask-Anything video_chat2 `mvbench.ipynb` (facts only); the texts are the protocol's, to the letter.
"""

import re
from collections.abc import Sequence
from typing import get_args

from qtablate.config import Scorer

SYSTEM_PROMPT = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail and movement of objects, "
    "and the action and pose of persons. Based on your observations, select the best option that accurately addresses the "
    "question.\n"
)
"""Stands before everything and again before every question; the Q-Former reads it too."""
ANSWER_PREFIX = "Best option:("
"""What every answer is made to begin with."""
SCORERS: tuple[str, ...] = get_args(Scorer)
"""Ways to score an item. likelihood: log-likelihood of each option's text; letter: of its letter behind ANSWER_PREFIX;
generate: a greedy answer, read by `parse_answer`; circular: by letter in every rotation of the options, correct only if all
rotations are."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MAX_NEW_TOKENS = 100
"""Maximum number of tokens of a generated answer."""

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
"""MVBench's 20 tasks in the notebook's order, with the folder of each task's clips."""

PUBLISHED_ACCURACY = {
    "VideoChat2, Vicuna, stage 3 (arXiv 2311.17005)": 51.1,
    "the same, a user's run of the released weights (Ask-Anything#90)": 50.975,
    "VideoChat2, Mistral, stage 3": 60.4,
    "VideoChat2, Mistral, HD stage 4": 62.3,
}
"""Published accuracy in %, averaged over MVBench's 20 tasks, at 16 frames."""


def format_question(question: str, options: Sequence[str]) -> str:
    """Write a question with its options listed, one letter each."""
    lines = [f"Question: {question}", "Options:", *(f"({LETTERS[n]}) {option}" for n, option in enumerate(options))]
    return "\n".join(lines).rstrip() + "\nOnly give the best option."


def parse_answer(text: str, options: Sequence[str]) -> int:
    """Return the index of the option that a generated answer names.

    Args:
        text: the generated text, which continues ANSWER_PREFIX.

    Returns:
        The index of the option whose letter stands alone at the start, or whose text is the whole answer; -1 for neither.
    """
    answer = text.strip()
    if match := re.match(r"\(?([A-Za-z])(?![A-Za-z0-9])", answer):
        index = LETTERS.index(match[1].upper())
        return index if index < len(options) else -1
    bare = answer.lstrip("(").rstrip(".").lower()
    named = [index for index, option in enumerate(options) if bare == option.rstrip(".").lower()]
    return named[0] if len(named) == 1 else -1


def official_check(text: str, gold: int) -> bool:
    """Tell whether MVBench's notebook counts a generated answer as correct: it puts "(" in front, then compares."""
    return official_check_ans(f"({text}", gold)


def official_check_ans(prediction: str, gold: int) -> bool:
    """Compare a prediction with the gold option as the notebook's `check_ans` does; for comparison with published numbers.

    The rule accepts wrong answers: "", "(", ")" and "." count as correct whatever the gold option is, and an empty
    generation becomes "(".
    """
    first, letter = prediction.lower().split(" ")[0], f"({LETTERS[gold]})".lower()
    return first.replace(".", "") in letter or letter in first


def first_line(text: str) -> str:
    """Return the first line of a text, stripped."""
    return text.strip().split("\n")[0]
