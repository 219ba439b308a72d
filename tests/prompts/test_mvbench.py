"""MVBench's texts to the letter, and how a generated answer is read."""

import pytest

from qtablate.datatypes import VIDEO
from qtablate.prompts.mvbench import (
    ANSWER_PREFIX,
    SYSTEM_PROMPT,
    first_line,
    format_question,
    official_check,
    official_check_ans,
    parse_answer,
)
from qtablate.prompts.registry import FORMATS
from qtablate.prompts.videochat2 import MISTRAL, PHI, VICUNA

OPTIONS = ("moves left", "moves right", "stays")
QUESTION = "Question: Where to?\nOptions:\n(A) moves left\n(B) moves right\n(C) stays\nOnly give the best option."


def characters(text: str) -> list[str]:
    return list(text)


def prompt(form) -> str:
    """All that is said before the letter."""
    question = form.encode_question_with_letters(VIDEO, SYSTEM_PROMPT, "Where to?", OPTIONS, characters)
    assert question.options == [["A"], ["B"], ["C"]]
    return "".join(question.prefix) + "{visual}" + "".join(question.context)


def test_the_question_lists_its_options():
    assert format_question("Where to?", OPTIONS) == QUESTION
    assert SYSTEM_PROMPT.endswith("question.\n")
    assert SYSTEM_PROMPT.count("\n") == 1


def test_vicunas_prompt_is_the_notebooks():
    assert prompt(VICUNA) == (
        f"{SYSTEM_PROMPT}###Human: <Video>{{visual}}</Video>\n###Human: {SYSTEM_PROMPT}{QUESTION}\n###Assistant: Best option:("
    )


def test_mistrals_prompt_wraps_turns_in_inst():
    assert prompt(MISTRAL) == (
        f"{SYSTEM_PROMPT}[INST] <Video>{{visual}}</Video> [/INST] [INST] {SYSTEM_PROMPT}{QUESTION} [/INST] Best option:("
    )


def test_others_ask_the_same_in_their_own_turns():
    assert prompt(PHI).endswith(f"{SYSTEM_PROMPT}{QUESTION}<|end|>\n<|assistant|>\n{ANSWER_PREFIX}")
    assert prompt(FORMATS["chatml"]).endswith(f"{QUESTION}<|im_end|>\n<|im_start|>assistant\n{ANSWER_PREFIX}")
    assert prompt(FORMATS["nano"]) == "<s><video>{visual}</video><q>" + QUESTION + "<a>" + ANSWER_PREFIX


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_likelihood_asks_with_the_same_beginning(form):
    """So one visual prefix serves all scorers."""
    by_text, by_letter = (
        ask(VIDEO, SYSTEM_PROMPT, "Where to?", OPTIONS, characters)
        for ask in (form.encode_question, form.encode_question_with_letters)
    )
    assert by_text.prefix == by_letter.prefix
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
def test_parse_answer_accepts_a_letter_alone_or_an_options_text(text):
    assert parse_answer(text, OPTIONS) == STRICT[text]


@pytest.mark.parametrize("gold", [0, 1, 2])
@pytest.mark.parametrize("said", ["", "(", ")", "."])
def test_the_official_check_accepts_wrong_answers_and_parse_answer_does_not(said, gold):
    assert official_check_ans(said, gold)
    assert parse_answer(said, OPTIONS) == -1
    assert official_check("", gold)  # an empty generation becomes "("


def test_the_official_check_on_other_answers():
    assert all(official_check(said, 1) for said in ("B) moves right", "b) moves right", "B", "B.", "B): it moves"))
    assert not any(official_check(said, 1) for said in ("A) moves left", "moves right", "C"))


def test_only_the_first_line_counts():
    assert first_line(" A) left\nbecause") == "A) left"
    assert first_line("") == ""
