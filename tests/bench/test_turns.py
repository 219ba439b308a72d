"""Conversations as the original tokenises and supervises them, against its own labels."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast

from qtablate.bench.prompts import IGNORE
from qtablate.bench.turns import MISTRAL, supervised, told

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = load_file(GOLDEN / "cases.safetensors")
INPUTS = json.loads((GOLDEN / "inputs.json").read_text())
TOKENIZER = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "mistral-tiny")
MEDIA = {"video": ("<Video>", "</Video>"), "image": ("<Image>", "</Image>")}


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize(
    ("case", "medium", "visual"),
    [("it_vid8", "video", 24), ("it_vid4", "video", 24), ("it_noextra", "video", 8), ("it_img1", "image", 24),
     ("it_vid8_single0", "video", 24)],
)  # fmt: skip
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
