"""VideoChat2's names, and what is no file of its weights."""

from pathlib import Path

import pytest
import torch

from qtablate.errors import ModelError
from qtablate.model.videochat2_checkpoint import merge_lora, missing_names, read_checkpoints, translate

GOLDEN = Path(__file__).parent.parent / "golden"


def test_half_an_adapter_is_an_error():
    language = {"model.layers.0.mlp.up_proj.weight": torch.zeros(3, 2)}
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.default.weight"
    both = {name.format("A"): torch.ones(1, 2), name.format("B"): torch.full((3, 1), 2.0)}
    assert torch.equal(merge_lora(language, both, 0.5)["model.layers.0.mlp.up_proj.weight"], torch.ones(3, 2))
    assert torch.equal(language["model.layers.0.mlp.up_proj.weight"], torch.zeros(3, 2))
    for left_out, words in (("B", "has no other half"), ("A", "halves without their others")):
        with pytest.raises(ModelError, match=words):
            merge_lora(language, {key: value for key, value in both.items() if f"lora_{left_out}" not in key}, 0.5)
    with pytest.raises(ModelError, match=r"has no model\.layers\.0\.mlp\.up_proj\.weight to go to"):
        merge_lora({}, both, 0.5)


def test_stage_1_brings_what_has_no_place_here_and_it_is_named():
    found = read_checkpoints([GOLDEN / "umt_qformer.pth"])
    assert {name.split(".")[0] for name in found.ignored} == {
        "qformer",
        "vision_proj",
        "text_proj",
        "itm_head",
        "temp",
        "vision_temp_embed",
    }
    assert all("cls." in name or "position_ids" in name for name in found.ignored if name.startswith("qformer."))
    assert "extra_query_tokens" not in found.weights
    later = read_checkpoints([GOLDEN / "umt_qformer.pth", GOLDEN / "stage3.pth"])
    assert torch.equal(later.weights["query_tokens"], read_checkpoints([GOLDEN / "stage3.pth"]).weights["query_tokens"])


def test_a_qformer_without_text_needs_no_text_weights_and_one_with_text_does():
    stage2 = read_checkpoints([GOLDEN / "stage2.pth"]).weights
    names = list(read_checkpoints([GOLDEN / "stage3.pth"]).weights)
    assert missing_names(names, stage2, text=False) == []
    wanted = missing_names(names, stage2, text=True)
    assert "qformer.embeddings.word_embeddings.weight" in wanted
    assert len(wanted) == 2 + 4 * 6
    del stage2["projection.bias"]
    assert missing_names(names, stage2, text=False) == ["projection.bias"]


def test_lora_keeps_pefts_names():
    adapter = {
        "mistral_model.base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight": torch.ones(1),
        "mistral_model.base_model.model.lm_head.lora_B.default.weight": torch.ones(1),
    }
    assert list(translate(adapter).adapter) == [
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight",
        "base_model.model.lm_head.lora_B.default.weight",
    ]


@pytest.mark.parametrize("name", ["vision_encoder.encoder.blocks.0.attn.k_bias", "qformer.bert.pooler.dense.weight", "x"])
def test_a_name_that_is_not_known_is_an_error(name):
    with pytest.raises(ModelError, match="1 names are not VideoChat2's"):
        translate({name: torch.ones(1)})


def test_what_is_no_file_of_weights(tmp_path):
    for content in (b"", b"not a pickle"):
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no file of weights that can be read safely"):
            read_checkpoints([path])
    torch.save({"model": {"a": 1}}, path)
    with pytest.raises(ModelError, match="holds no weights"):
        read_checkpoints([path])


def test_nothing_in_a_file_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": Evil()}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="safely"):
        read_checkpoints([tmp_path / "x.pth"])
    assert not (tmp_path / "ran").exists()


def test_two_variants_at_once_are_an_error():
    with pytest.raises(ModelError, match="several variants of VideoChat2: mistral, phi"):
        translate({"mistral_proj.bias": torch.ones(1), "phi_proj.bias": torch.ones(1)})
