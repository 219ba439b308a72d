"""Conversations as VideoChat2 tokenises and supervises them, against its own labels."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from qtablate.prompts.registry import FORMATS
from qtablate.prompts.types import IGNORE
from qtablate.prompts.videochat2 import (
    MISTRAL,
    PHI,
    VICUNA,
    answer_labels,
    timestamp_sentence,
    tokenize_and_mask,
    with_timestamps,
)

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
def test_labels_are_videochat2s(case, medium, visual):
    """One place for bos, then the text, its visual tokens, and the rest."""
    labels, mask = CASES[f"{case}.labels"], CASES[f"{case}.attention_mask"]
    for row in range(len(labels)):
        found = tokenize_and_mask(INPUTS[f"{medium}_texts"][row], MEDIA[medium], MISTRAL.turns, ids)
        mine = [IGNORE] * (1 + len(found.prefix) + visual) + found.labels
        assert len(mine) == int(mask[row].sum())
        assert labels[row].tolist() == mine + [IGNORE] * (labels.shape[1] - len(mine))


def test_what_is_supervised_are_the_answers_and_their_ends():
    found = tokenize_and_mask(INPUTS["video_texts"][1], MEDIA["video"], MISTRAL.turns, ids)
    kept = [one for one in found.labels if one != IGNORE]
    assert TOKENIZER.decode(kept) == "red </s> She picks up the cup, then puts it down near the table. </s> yes </s>"
    assert [one for one, label in zip(found.suffix, found.labels, strict=True) if label != IGNORE] == kept


def test_a_question_is_never_supervised():
    text = "</Video> [/INST] [INST] What? [/INST] a b </s> [INST] And? [/INST] c </s>"
    kept = [one for one in answer_labels(ids(text), text, MISTRAL.turns, ids) if one != IGNORE]
    assert TOKENIZER.decode(kept) == "a b </s> c </s>"


@pytest.mark.parametrize("text", ["no marker", "<Video></Video> and <Video></Video>"])
def test_the_visual_tokens_have_one_place(text):
    with pytest.raises(ValueError, match=r"expected <Video></Video> once"):
        tokenize_and_mask(text, MEDIA["video"], MISTRAL.turns, ids)


def test_texts_embed_to_what_videochat2_fed_its_language_model():
    """Positions that hold text are rows of the embedding table: equal ids have equal rows, in every case of the batch."""
    embeds, rows = CASES["it_vid8.inputs_embeds"], {}
    for row, text in enumerate(INPUTS["video_texts"]):
        found = tokenize_and_mask(text, MEDIA["video"], MISTRAL.turns, ids)
        places = [
            *range(1, 1 + len(found.prefix)),
            *range(1 + len(found.prefix) + 24, 1 + len(found.prefix) + 24 + len(found.suffix)),
        ]
        for place, one in zip(places, [*found.prefix, *found.suffix], strict=True):
            assert torch.equal(rows.setdefault(one, embeds[row, place]), embeds[row, place])
    assert len({tuple(value.tolist()) for value in rows.values()}) == len(rows) > 60  # other ids, other rows


def words(text: str) -> list[str]:
    """A tokenizer whose pieces' lengths add up: words, signs, markers and ends of lines; no spaces."""
    return re.findall(r"<\|\w+\|>|\[/?INST\]|</?\w+>|###|\w+|[^\w\s]|\n", text)


PAIRS = (("What color?", "red ."), ("And then?", "it stops ."))


def kept(form, pairs=PAIRS, instruction: str = "Watch .") -> str:
    found = form.encode_conversation("video", instruction, pairs, words)
    spans = [[word if label != IGNORE else "_" for word, label in zip(found.suffix, found.labels, strict=True)]]
    return re.sub(r"(_ )+_|_", "_", " ".join(spans[0]).replace("\n", "|"))


def test_vicuna_supervises_its_markers_too():
    """The first human's marker, and all from an assistant's marker to the next human's (videochat2_it_vicuna.py)."""
    before = VICUNA.encode_conversation("video", "Watch .", PAIRS, words).prefix
    assert " ".join(before) == "Watch . ### Human : <Video>"
    assert kept(VICUNA) == "_ ### Human : _ ### Assistant : red . ### Human : _ ### Assistant : it stops . ###"
    assert kept(VICUNA, (("", "a dog"),)) == "_ ### Assistant : a dog ###"  # a caption: no question, no marker of one


def test_phi_supervises_answers_and_their_ends():
    before = PHI.encode_conversation("video", "Watch .", PAIRS, words).prefix
    assert "".join(before) == "<|system|>\nWatch.<|end|>\n<|user|>\n<Video>"
    assert kept(PHI) == "_ red . <|end|> | _ it stops . <|end|>"
    assert "".join(PHI.encode_conversation("video", "", (("", "a dog"),), words).prefix) == "<|user|>\n<Video>"
    assert kept(PHI, (("", "a dog"),), "") == "_ a dog <|end|>"


def test_mistral_with_words():
    assert kept(MISTRAL) == "_ red . </s> _ it stops . </s>"
    assert kept(MISTRAL, (("", "a dog"),)) == "_ a dog </s>"


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_what_is_asked_is_what_was_told(form):
    """The context and an option are the ids of a conversation that was told with this answer."""
    options = ["it stops", "it stops and turns", "red"]
    asked = form.encode_question("video", "", "What then?", options, words)
    for option, ids in zip(options, asked.options, strict=True):
        told = form.encode_conversation("video", "", (("What then?", option),), words)
        assert asked.prefix[-len(told.prefix) :] == told.prefix or form is PHI  # whose instruction has a turn in training
        said = [word for word in asked.context + ids if word != "\n" or form is PHI]  # lines end in its evaluation alone
        assert said == told.suffix
        assert " ".join(ids).startswith(option)
    assert asked.context[-1] in ("[/INST]", ":", "\n")


def test_an_option_never_begins_before_the_others_part():
    """A tokenizer that joins the marker with what follows: the options then start where all still agree."""

    def joined(text: str) -> list[str]:
        return re.findall(r"\[/INST\] r?|\[?/?\w+\]?|\S", text)

    asked = MISTRAL.encode_question("video", "", "q", ["red", "left"], joined)
    assert all("[/INST]" not in ids for ids in asked.context[-1:])
    assert {next(iter(ids)) for ids in asked.options} == {"[/INST] r", "[/INST] "}


def test_turns_that_do_not_add_up_are_an_error():
    """Two spaces become a token of their own: VideoChat2 stops there with an assertion."""

    def spaced(text: str) -> list[str]:
        return re.findall(r"  +|\S+", text)

    with pytest.raises(ValueError, match="the turns have 7 tokens apart and 8 together"):
        MISTRAL.encode_conversation("video", "", (("q", " b"),), spaced)


def test_the_qformers_text():
    assert MISTRAL.qformer_text("Watch.", "What?", True) == PHI.qformer_text("Watch.", "What?", True) == "Watch."
    assert VICUNA.qformer_text("Watch.", "What?", True) == "Watch. What?"
    assert VICUNA.qformer_text("Watch.", "What?", False) == "Watch."  # VideoChat2's evaluation gives the instruction alone
    assert VICUNA.qformer_text("", "What?", True) == ""
    assert FORMATS["instructblip"].qformer_text("", "What?", True) == "What?"


def test_forms_of_pieces_that_are_joined_before_they_are_tokenised():
    form = FORMATS["videochat2_mistral_caption"]
    told = form.encode_conversation("video", "", (("Describe the video.", "a dog"),), words)
    assert " ".join(told.prefix) == "[INST] <Video>"
    assert " ".join(told.suffix) == "</Video> Describe the video . [/INST] a dog </s>"
    assert told.labels[-3:] == ["a", "dog", "</s>"]
    assert set(told.labels[:-3]) == {IGNORE}
    chat = FORMATS["chatml"].encode_conversation("video", "", (("What?", "red"), ("Then?", "blue")), words)
    text = "".join(chat.prefix + chat.suffix)
    assert text == (
        "<|im_start|>user\n<video></video>\nWhat?<|im_end|>\n<|im_start|>assistant\nred<|im_end|>"
        "\n<|im_start|>user\nThen?<|im_end|>\n<|im_start|>assistant\nblue<|im_end|>"
    )


def test_timestamps_are_written_as_in_videochat2s_texts():
    """The golden texts name fewer times than frames: their sentence is taken apart, written anew, and stands where it stood."""
    instruction, text = INPUTS["video_instructions"][0], INPUTS["video_texts"][0]
    sentence = re.search(r"The video contains .*? seconds\.", text)[0]
    seconds = [float(one) for one in re.findall(r"\d+\.\d+", sentence)]
    assert timestamp_sentence(seconds) == sentence.replace("8 frames", "3 frames")
    form = with_timestamps(MISTRAL, sentence)
    pairs = (("What is the man doing?", "The man is running left."),)
    found, other = (
        form.encode_conversation("video", instruction, pairs, ids),
        tokenize_and_mask(text, MEDIA["video"], MISTRAL.turns, ids),
    )
    assert (found.prefix, found.suffix, found.labels) == (other.prefix, other.suffix, other.labels)
    assert MISTRAL.encode_conversation("video", instruction, pairs, ids).suffix != found.suffix
    assert timestamp_sentence([0.26, 12]) == "The video contains 2 frames sampled at 0.3, 12.0 seconds."


@pytest.mark.parametrize("form", [MISTRAL, VICUNA, PHI])
def test_questions_say_it_once_between_the_medium_and_themselves(form):
    said = with_timestamps(form, "At 0.5 seconds.")
    plainly, asked = (one.encode_question("video", "Watch.", "q", ["a", "b"], words) for one in (form, said))
    note = words("At 0.5 seconds.")
    assert asked.prefix == plainly.prefix
    assert asked.context == [*plainly.context[:1], *note, *plainly.context[1:]]
    lettered = said.encode_question_with_letters("video", "Watch.", "q", ["a", "b"], words).context
    assert lettered[: 1 + len(note)] == ["</Video>", *note]
    told = said.encode_conversation("video", "Watch.", PAIRS, words)
    assert told.suffix[: 1 + len(note)] == ["</Video>", *note]
    assert set(told.labels[1 : 1 + len(note)]) == {IGNORE}


def test_other_forms_have_no_place_for_it():
    with pytest.raises(ValueError, match="only VideoChat2's"):
        with_timestamps(FORMATS["plain"], "At 0.5 seconds.")
