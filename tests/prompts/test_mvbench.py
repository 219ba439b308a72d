"""MVBench's texts to the letter, and how a generated answer is read."""

import pytest

from qtablate.datatypes import VIDEO
from qtablate.prompts.mvbench import START, SYSTEM, check, first_line, listed, strict, upstream
from qtablate.prompts.segments import formats
from qtablate.prompts.videochat2 import MISTRAL, PHI, VICUNA

OPTIONS = ("moves left", "moves right", "stays")
QUESTION = "Question: Where to?\nOptions:\n(A) moves left\n(B) moves right\n(C) stays\nOnly give the best option."


def characters(text: str) -> list[str]:
    return list(text)


def prompt(form) -> str:
    """All that is said before the letter."""
    asked = form.lettered(VIDEO, SYSTEM, "Where to?", OPTIONS, characters)
    assert asked.options == [["A"], ["B"], ["C"]]
    return "".join(asked.before) + "{visual}" + "".join(asked.context)


def test_the_question_lists_its_options():
    assert listed("Where to?", OPTIONS) == QUESTION
    assert SYSTEM.endswith("question.\n")
    assert SYSTEM.count("\n") == 1


def test_vicunas_prompt_is_the_notebooks():
    assert prompt(VICUNA) == (
        f"{SYSTEM}###Human: <Video>{{visual}}</Video>\n###Human: {SYSTEM}{QUESTION}\n###Assistant: Best option:("
    )


def test_mistrals_prompt_wraps_turns_in_inst():
    assert prompt(MISTRAL) == (
        f"{SYSTEM}[INST] <Video>{{visual}}</Video> [/INST] [INST] {SYSTEM}{QUESTION} [/INST] Best option:("
    )


def test_others_ask_the_same_in_their_own_turns():
    assert prompt(PHI).endswith(f"{SYSTEM}{QUESTION}<|end|>\n<|assistant|>\n{START}")
    assert prompt(formats()["chatml"]).endswith(f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n{START}")
    assert prompt(formats()["nano"]) == "<s><video>{visual}</video><q>" + QUESTION + "<a>" + START


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_likelihood_asks_with_the_same_beginning(form):
    """So one visual prefix serves all scorers."""
    by_text, by_letter = (ask(VIDEO, SYSTEM, "Where to?", OPTIONS, characters) for ask in (form.asked, form.lettered))
    assert by_text.before == by_letter.before
    common = "".join(by_text.context).partition("Where")[0]
    assert "".join(by_letter.context).startswith(common.replace("Question", ""))


STRICT = {
    "A) moves left": 0,
    "b": 1,
    "C": 2,
    "(C) stays": 2,
    "B. moves right": 1,
    " A": 0,
    "D) nothing": -1,
    "": -1,
    ")": -1,
    "(": -1,
    ".": -1,
    "moves right": 1,
    "Moves right.": 1,
    "moves": -1,
    "because it moves": -1,
    "A dog": 0,
    "Also": -1,
}


@pytest.mark.parametrize("text", STRICT)
def test_a_strict_reader_wants_a_letter_alone_or_an_options_text(text):
    assert strict(text, OPTIONS) == STRICT[text]


@pytest.mark.parametrize("gold", [0, 1, 2])
@pytest.mark.parametrize("said", ["", "(", ")", "."])
def test_the_originals_check_can_be_cheated_and_the_strict_reader_cannot(said, gold):
    assert check(said, gold)
    assert strict(said, OPTIONS) == -1
    assert upstream("", gold)  # an empty generation becomes "("


def test_the_originals_check_elsewhere():
    assert all(upstream(said, 1) for said in ("B) moves right", "b) moves right", "B", "B.", "B): it moves"))
    assert not any(upstream(said, 1) for said in ("A) moves left", "moves right", "C"))


def test_only_the_first_line_counts():
    assert first_line(" A) left\nbecause") == "A) left"
    assert first_line("") == ""
