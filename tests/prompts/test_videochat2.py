"""Conversations as the original tokenises and supervises them, against its own labels."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from qtablate.prompts.segments import IGNORE, formats
from qtablate.prompts.videochat2 import MISTRAL, PHI, VICUNA, noted, seconds_told, supervised, told

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = load_file(GOLDEN / "cases.safetensors")
INPUTS = json.loads((GOLDEN / "inputs.json").read_text())
TOKENIZER = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "mistral-tiny")
MEDIA = {"video": ("<Video>", "</Video>"), "image": ("<Image>", "</Image>")}


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize(
    ("case", "medium", "visual"),
    [
        ("it_vid8", "video", 24),
        ("it_vid4", "video", 24),
        ("it_noextra", "video", 8),
        ("it_img1", "image", 24),
        ("it_vid8_single0", "video", 24),
    ],
)
def test_labels_are_the_originals(case, medium, visual):
    """One place for bos, then the text, its visual tokens, and the rest."""
    labels, mask = CASES[f"{case}.labels"], CASES[f"{case}.attention_mask"]
    for row in range(len(labels)):
        found = told(INPUTS[f"{medium}_texts"][row], MEDIA[medium], MISTRAL.turns, ids)
        mine = [IGNORE] * (1 + len(found.before) + visual) + found.labels
        assert len(mine) == int(mask[row].sum())
        assert labels[row].tolist() == mine + [IGNORE] * (labels.shape[1] - len(mine))


def test_what_is_supervised_are_the_answers_and_their_ends():
    found = told(INPUTS["video_texts"][1], MEDIA["video"], MISTRAL.turns, ids)
    kept = [one for one in found.labels if one != IGNORE]
    assert TOKENIZER.decode(kept) == "red </s> She picks up the cup, then puts it down near the table. </s> yes </s>"
    assert [one for one, label in zip(found.behind, found.labels, strict=True) if label != IGNORE] == kept


def test_a_question_is_never_supervised():
    text = "</Video> [/INST] [INST] What? [/INST] a b </s> [INST] And? [/INST] c </s>"
    kept = [one for one in supervised(ids(text), text, MISTRAL.turns, ids) if one != IGNORE]
    assert TOKENIZER.decode(kept) == "a b </s> c </s>"


@pytest.mark.parametrize("text", ["no marker", "<Video></Video> and <Video></Video>"])
def test_the_visual_tokens_have_one_place(text):
    with pytest.raises(ValueError, match=r"expected <Video></Video> once"):
        told(text, MEDIA["video"], MISTRAL.turns, ids)


def test_texts_embed_to_what_the_original_fed_its_language_model():
    """Positions that hold text are rows of the embedding table: equal ids have equal rows, in every case of the batch."""
    embeds, rows = CASES["it_vid8.inputs_embeds"], {}
    for row, text in enumerate(INPUTS["video_texts"]):
        found = told(text, MEDIA["video"], MISTRAL.turns, ids)
        places = [
            *range(1, 1 + len(found.before)),
            *range(1 + len(found.before) + 24, 1 + len(found.before) + 24 + len(found.behind)),
        ]
        for place, one in zip(places, [*found.before, *found.behind], strict=True):
            assert torch.equal(rows.setdefault(one, embeds[row, place]), embeds[row, place])
    assert len({tuple(value.tolist()) for value in rows.values()}) == len(rows) > 60  # other ids, other rows


def words(text: str) -> list[str]:
    """A tokenizer whose pieces' lengths add up: words, signs, markers and ends of lines; no spaces."""
    return re.findall(r"<\|\w+\|>|\[/?INST\]|</?\w+>|###|\w+|[^\w\s]|\n", text)


PAIRS = (("What color?", "red ."), ("And then?", "it stops ."))


def kept(form, pairs=PAIRS, instruction: str = "Watch .") -> str:
    found = form.told("video", instruction, pairs, words)
    spans = [[word if label != IGNORE else "_" for word, label in zip(found.behind, found.labels, strict=True)]]
    return re.sub(r"(_ )+_|_", "_", " ".join(spans[0]).replace("\n", "|"))


def test_vicuna_supervises_its_markers_too():
    """The first human's marker, and all from an assistant's marker to the next human's (videochat2_it_vicuna.py)."""
    before = VICUNA.told("video", "Watch .", PAIRS, words).before
    assert " ".join(before) == "Watch . ### Human : <Video>"
    assert kept(VICUNA) == "_ ### Human : _ ### Assistant : red . ### Human : _ ### Assistant : it stops . ###"
    assert kept(VICUNA, (("", "a dog"),)) == "_ ### Assistant : a dog ###"  # a caption: no question, no marker of one


def test_phi_supervises_answers_and_their_ends():
    before = PHI.told("video", "Watch .", PAIRS, words).before
    assert "".join(before) == "<|system|>\nWatch.<|end|>\n<|user|>\n<Video>"
    assert kept(PHI) == "_ red . <|end|> | _ it stops . <|end|>"
    assert "".join(PHI.told("video", "", (("", "a dog"),), words).before) == "<|user|>\n<Video>"
    assert kept(PHI, (("", "a dog"),), "") == "_ a dog <|end|>"


def test_mistral_with_words():
    assert kept(MISTRAL) == "_ red . </s> _ it stops . </s>"
    assert kept(MISTRAL, (("", "a dog"),)) == "_ a dog </s>"


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_what_is_asked_is_what_was_told(form):
    """The context and an option are the ids of a conversation that was told with this answer."""
    options = ["it stops", "it stops and turns", "red"]
    asked = form.asked("video", "", "What then?", options, words)
    for option, ids in zip(options, asked.options, strict=True):
        told = form.told("video", "", (("What then?", option),), words)
        assert asked.before[-len(told.before) :] == told.before or form is PHI  # whose instruction has a turn in training
        said = [word for word in asked.context + ids if word != "\n" or form is PHI]  # lines end in its evaluation alone
        assert said == told.behind
        assert " ".join(ids).startswith(option)
    assert asked.context[-1] in ("[/INST]", ":", "\n")


def test_an_option_never_begins_before_the_others_part():
    """A tokenizer that joins the marker with what follows: the options then start where all still agree."""

    def joined(text: str) -> list[str]:
        return re.findall(r"\[/INST\] r?|\[?/?\w+\]?|\S", text)

    asked = MISTRAL.asked("video", "", "q", ["red", "left"], joined)
    assert all("[/INST]" not in ids for ids in asked.context[-1:])
    assert {next(iter(ids)) for ids in asked.options} == {"[/INST] r", "[/INST] "}


def test_turns_that_do_not_add_up_are_an_error():
    """Two spaces become a token of their own: the original stops there with an assertion."""

    def spaced(text: str) -> list[str]:
        return re.findall(r"  +|\S+", text)

    with pytest.raises(ValueError, match="the turns have 7 tokens apart and 8 together"):
        MISTRAL.told("video", "", (("q", " b"),), spaced)


def test_the_qformers_text():
    assert MISTRAL.qformer("Watch.", "What?", True) == PHI.qformer("Watch.", "What?", True) == "Watch."
    assert VICUNA.qformer("Watch.", "What?", True) == "Watch. What?"
    assert VICUNA.qformer("Watch.", "What?", False) == "Watch."  # the original's evaluation gives the instruction alone
    assert VICUNA.qformer("", "What?", True) == ""
    assert formats()["instructblip"].qformer("", "What?", True) == "What?"


def test_forms_of_pieces_that_are_joined_before_they_are_tokenised():
    form = formats()["videochat2_mistral_caption"]
    told = form.told("video", "", (("Describe the video.", "a dog"),), words)
    assert " ".join(told.before) == "[INST] <Video>"
    assert " ".join(told.behind) == "</Video> Describe the video . [/INST] a dog </s>"
    assert told.labels[-3:] == ["a", "dog", "</s>"]
    assert set(told.labels[:-3]) == {IGNORE}
    chat = formats()["chatml"].told("video", "", (("What?", "red"), ("Then?", "blue")), words)
    text = "".join(chat.before + chat.behind)
    assert text == (
        "<|im_start|>user\n<video></video>\nWhat?<|im_end|>\n<|im_start|>assistant\nred<|im_end|>"
        "\n<|im_start|>user\nThen?<|im_end|>\n<|im_start|>assistant\nblue<|im_end|>"
    )


def test_when_frames_were_sampled_is_said_as_the_originals_texts_say_it():
    """The golden texts name fewer times than frames: their sentence is taken apart, written anew, and stands where it stood."""
    instruction, text = INPUTS["video_instructions"][0], INPUTS["video_texts"][0]
    sentence = re.search(r"The video contains .*? seconds\.", text)[0]
    seconds = [float(one) for one in re.findall(r"\d+\.\d+", sentence)]
    assert seconds_told(seconds) == sentence.replace("8 frames", "3 frames")
    form = noted(MISTRAL, sentence)
    pairs = (("What is the man doing?", "The man is running left."),)
    found, other = form.told("video", instruction, pairs, ids), told(text, MEDIA["video"], MISTRAL.turns, ids)
    assert (found.before, found.behind, found.labels) == (other.before, other.behind, other.labels)
    assert MISTRAL.told("video", instruction, pairs, ids).behind != found.behind
    assert seconds_told([0.26, 12]) == "The video contains 2 frames sampled at 0.3, 12.0 seconds."


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_questions_say_it_once_between_the_medium_and_themselves(form):
    said = noted(form, "At 0.5 seconds.")
    plainly, asked = (one.asked("video", "Watch.", "q", ["a", "b"], words) for one in (form, said))
    note = words("At 0.5 seconds.")
    assert asked.before == plainly.before
    assert asked.context == [*plainly.context[:1], *note, *plainly.context[1:]]
    lettered = said.lettered("video", "Watch.", "q", ["a", "b"], words).context
    assert lettered[: 1 + len(note)] == ["</Video>", *note]
    told = said.told("video", "Watch.", PAIRS, words)
    assert told.behind[: 1 + len(note)] == ["</Video>", *note]
    assert set(told.labels[1 : 1 + len(note)]) == {IGNORE}


def test_other_forms_have_no_place_for_it():
    with pytest.raises(ValueError, match="only VideoChat2's"):
        noted(formats()["plain"], "At 0.5 seconds.")
