"""The container computes what the original VideoChat2 does: its weights, its inputs, its numbers (tests/golden)."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, BertTokenizer, InstructBlipQFormerConfig, PreTrainedTokenizerFast, VideoMAEConfig

from qtablate.errors import ModelError
from qtablate.model.original import merged, missing, read, translate
from qtablate.model.turns import MISTRAL, told
from qtablate.model.videochat2 import VideoChat2Config, VideoChat2Model

GOLDEN = Path(__file__).parent.parent / "golden"
CASES = load_file(GOLDEN / "cases.safetensors")
INPUTS = json.loads((GOLDEN / "inputs.json").read_text())
TOLERANCE = 1e-10


def container(weights: str, extra: int = 16) -> VideoChat2Model:
    """The tiny original of tests/golden, in fp64, its language model rounded to fp16 as the original loads it."""
    config = VideoChat2Config(
        vision_config=VideoMAEConfig(
            image_size=224, patch_size=16, tubelet_size=1, num_frames=4, hidden_size=64, num_hidden_layers=3,
            num_attention_heads=4, intermediate_size=256, layer_norm_eps=1e-6, use_mean_pooling=False,
        ).to_dict(),
        qformer_config=InstructBlipQFormerConfig(
            vocab_size=150, max_position_embeddings=64, hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
            intermediate_size=96, cross_attention_frequency=2, encoder_hidden_size=64,
        ).to_dict(),
        text_config=AutoConfig.from_pretrained(GOLDEN / "mistral-tiny").to_dict(),
        num_query_tokens=8, extra_num_query_tokens=extra, position_frames=4, num_frames=8,
    )  # fmt: skip
    model = VideoChat2Model(config).double().eval()
    found = read([GOLDEN / weights])
    held = {name: value.double() for name, value in found.weights.items()}
    if not extra:
        del held["extra_query_tokens"]
    language = {
        name: value.half().double() for name, value in load_file(GOLDEN / "mistral-tiny" / "model.safetensors").items()
    }  # fmt: skip
    language = merged(language, found.adapter, scale=8 / 4)
    held |= {f"language_model.{name}": value for name, value in language.items()}
    absent, foreign = model.load_state_dict(held, strict=False)
    assert missing(absent, [], text="stage3" in weights) == []
    assert foreign == []
    return model


def pixels(clips: int, frames: int) -> torch.Tensor:
    made = torch.randn(clips, frames, 3, 224, 224, generator=torch.Generator().manual_seed(7)).double()
    assert float(made.sum()) == pytest.approx(INPUTS["pixels"][f"B={clips},T={frames}"]["checksum"], rel=1e-9)
    return made


def instructions(texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    tokenizer = BertTokenizer.from_pretrained(str(GOLDEN / "bert-base-uncased"), truncation_side="left", padding_side="left")
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    found = tokenizer(texts, padding="longest", truncation=True, max_length=64, return_tensors="pt")
    return found.input_ids, found.attention_mask


def ids(text: str) -> list[int]:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(GOLDEN / "mistral-tiny")
    return list(tokenizer(text, add_special_tokens=False).input_ids)


VIDEO, IMAGE = INPUTS["video_instructions"], INPUTS["image_instructions"]
VISUAL = [
    # case, weights, extra tokens, clips of the batch, frames, the Q-Former's texts
    ("it_vid4", "stage3.pth", 16, 3, 4, VIDEO),
    ("it_vid8", "stage3.pth", 16, 3, 8, VIDEO),
    ("it_vid16", "stage3.pth", 16, 3, 16, VIDEO),
    ("it_vid8_single0", "stage3.pth", 16, 3, 8, VIDEO[:1]),
    ("it_img1", "stage3.pth", 16, 2, 1, IMAGE),
    ("it_noextra", "stage3.pth", 0, 3, 8, VIDEO),
    ("it_notext", "stage3.pth", 16, 3, 8, None),
    ("pt_vid4", "stage2.pth", 16, 2, 4, None),
]


@pytest.mark.parametrize(("case", "weights", "extra", "clips", "frames", "texts"), VISUAL, ids=[row[0] for row in VISUAL])
def test_visual_tokens_are_the_originals(case, weights, extra, clips, frames, texts):
    model = container(weights, extra)
    shown = pixels(clips, frames)[: len(texts) if texts else clips]
    text = instructions(texts) if texts else None
    with torch.inference_mode():
        features = model.vision_features(shown)
        tokens = model.visual_tokens(features, text=text)
    assert (features[:, ::97] - CASES[f"{case}.vision_rows"]).abs().max() <= TOLERANCE
    assert (tokens - CASES[f"{case}.proj"]).abs().max() <= TOLERANCE


def embedded(model: VideoChat2Model, ids: list[int]) -> torch.Tensor:
    return model.language_model.get_input_embeddings()(torch.tensor(ids, dtype=torch.long))


def check_gradients(model: VideoChat2Model, case: str) -> None:
    """Every gradient that the case has, by norm and some whole, but those of an adapter, and those that are nothing: a
    key's bias shifts all scores alike."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    checked = 0
    for name in (name.removeprefix(f"{case}.gradnorm.") for name in CASES if name.startswith(f"{case}.gradnorm.")):
        golden = CASES[f"{case}.gradnorm.{name}"].item()
        found = translate({name: torch.zeros(3)})  # three where q, k and v were one
        if golden > 1e-12 and not found.adapter:
            checked += 1
            norms = [gradients[new].norm().item() for new in found.weights]
            assert math.hypot(*norms) == pytest.approx(golden, rel=1e-9), name
    assert checked > 120
    for name in (name.removeprefix(f"{case}.grad.") for name in CASES if name.startswith(f"{case}.grad.")):
        found = translate({name: torch.zeros(1)})
        for new in found.weights:
            whole = CASES[f"{case}.grad.{name}"]
            assert (gradients[new] - whole).norm() <= 1e-9 * whole.norm(), name


def test_loss_and_gradients_of_the_caption_stage_are_the_originals():
    model, case = container("stage2.pth"), "pt_vid4"
    ends = [ids(text) for text in ("[INST] <Video>", "</Video> Describe the video in details. [/INST]")]
    captions = [ids(f"{caption}</s>") for caption in INPUTS["captions"]]
    longest = max(map(len, captions))
    visual = model.visual_tokens(model.vision_features(pixels(2, 4)))
    rows = [
        torch.cat([
            embedded(model, [1]), embedded(model, ends[0]), own, embedded(model, ends[1]),
            embedded(model, caption + [2] * (longest - len(caption))),
        ])
        for own, caption in zip(visual, captions, strict=True)
    ]  # fmt: skip
    fed = torch.stack(rows)
    assert (fed.detach() - CASES[f"{case}.inputs_embeds"]).abs().max() <= TOLERANCE
    out = model.language_model(
        inputs_embeds=fed, attention_mask=CASES[f"{case}.attention_mask"], labels=CASES[f"{case}.labels"]
    )  # fmt: skip
    assert out.loss.item() == pytest.approx(CASES[f"{case}.loss"].item(), abs=1e-5)
    out.loss.backward()
    check_gradients(model, case)


def test_loss_of_the_instruction_stage_is_the_originals():
    """Fed with the original's bos: the value 1 in place of an embedding."""
    model, case = container("stage3.pth"), "it_vid8"
    with torch.inference_mode():
        visual = model.visual_tokens(model.vision_features(pixels(3, 8)), text=instructions(VIDEO))
        out = model.language_model(
            inputs_embeds=CASES[f"{case}.inputs_embeds"], attention_mask=CASES[f"{case}.attention_mask"],
            labels=CASES[f"{case}.labels"],
        )  # fmt: skip
        for row, text in enumerate(INPUTS["video_texts"]):
            found = told(text, ("<Video>", "</Video>"), MISTRAL, ids)
            mine = torch.cat([
                torch.ones(1, 64), embedded(model, found.before), visual[row], embedded(model, found.behind)
            ])  # fmt: skip
            assert (mine - CASES[f"{case}.inputs_embeds"][row, : len(mine)]).abs().max() <= TOLERANCE
    assert out.loss.item() == pytest.approx(CASES[f"{case}.loss"].item(), abs=1e-5)
    assert (out.logits[:, ::7] - CASES[f"{case}.logits_rows"]).abs().max() < 1e-5


def test_loss_and_gradients_with_lora_are_the_originals():
    """Merged into the matrices it belongs to; the adapter's own gradients are peft's affair."""
    model, case = container("stage3_lora.pth"), "it_lora_vid8_eval"
    visual = model.visual_tokens(model.vision_features(pixels(3, 8)), text=instructions(VIDEO))
    assert (visual.detach() - CASES[f"{case}.proj"]).abs().max() <= TOLERANCE
    rows = []
    for row, text in enumerate(INPUTS["video_texts"]):
        found = told(text, ("<Video>", "</Video>"), MISTRAL, ids)
        own = [torch.ones(1, 64), embedded(model, found.before), visual[row], embedded(model, found.behind)]
        rows.append(torch.cat([*own, embedded(model, [2] * (111 - sum(map(len, own))))]))
    out = model.language_model(
        inputs_embeds=torch.stack(rows), attention_mask=CASES[f"{case}.attention_mask"], labels=CASES[f"{case}.labels"]
    )  # fmt: skip
    assert out.loss.item() == pytest.approx(CASES[f"{case}.loss"].item(), abs=1e-5)
    out.loss.backward()
    check_gradients(model, case)


def test_half_an_adapter_is_an_error():
    language = {"model.layers.0.mlp.up_proj.weight": torch.zeros(3, 2)}
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_{}.default.weight"
    both = {name.format("A"): torch.ones(1, 2), name.format("B"): torch.full((3, 1), 2.0)}
    assert torch.equal(merged(language, both, 0.5)["model.layers.0.mlp.up_proj.weight"], torch.ones(3, 2))
    assert torch.equal(language["model.layers.0.mlp.up_proj.weight"], torch.zeros(3, 2))
    for left_out, words in (("B", "has no other half"), ("A", "halves without their others")):
        with pytest.raises(ModelError, match=words):
            merged(language, {key: value for key, value in both.items() if f"lora_{left_out}" not in key}, 0.5)
    with pytest.raises(ModelError, match=r"has no model\.layers\.0\.mlp\.up_proj\.weight to go to"):
        merged({}, both, 0.5)


def test_greedy_generation_is_the_originals():
    model = container("stage3.pth")
    with torch.inference_mode():
        visual = model.visual_tokens(
            model.vision_features(pixels(3, 8)[:1]), text=instructions(["Watch the video and answer the question."])
        )  # fmt: skip
        assert visual.shape == (1, 24, 64)
        found = model.language_model.generate(
            inputs_embeds=CASES["gen.prefix_embeds"], attention_mask=torch.ones(1, 42, dtype=torch.long), max_new_tokens=24,
            do_sample=False, pad_token_id=2,
        )  # fmt: skip
    assert found.tolist() == CASES["gen.output_ids"].tolist()
    place = (CASES["gen.prefix_embeds"][0, :, None] - visual[0, None]).abs().amax(-1) < TOLERANCE
    assert place.any(0).all()  # the prefix holds these visual tokens


def test_parity_bites():
    """Without the interpolated positions, or with the wrong eps, or without the text's mask, the numbers are others."""
    model, shown = container("stage3.pth"), pixels(3, 8)
    ids, mask = instructions(VIDEO)
    with torch.inference_mode():
        features = model.vision_features(shown)
        unmasked = model.visual_tokens(features, text=(ids, torch.ones_like(mask)))
        assert (unmasked - CASES["it_vid8.proj"]).abs().max() > 1e-3
        model.config.position_frames = 8
        model._tables.clear()
        assert (model.vision_features(shown)[:, ::97] - CASES["it_vid8.vision_rows"]).abs().max() > 0.1
        model.config.position_frames = 4
        model._tables.clear()
        model.vision.layernorm.eps = 1e-6
        assert (model.vision_features(shown)[:, ::97] - CASES["it_vid8.vision_rows"]).abs().max() > TOLERANCE


def test_a_clips_tokens_depend_on_what_it_is_batched_with_as_the_originals_do():
    """The text is padded on the left and its positions ignore the mask: alone, the first clip has other tokens."""
    assert (CASES["it_vid8.proj"][:1] - CASES["it_vid8_single0.proj"]).abs().max() > 0.01


def test_stage_1_brings_what_has_no_place_here_and_it_is_named():
    found = read([GOLDEN / "umt_qformer.pth"])
    assert {name.split(".")[0] for name in found.left_out} == {
        "qformer", "vision_proj", "text_proj", "itm_head", "temp", "vision_temp_embed"
    }  # fmt: skip
    assert all("cls." in name or "position_ids" in name for name in found.left_out if name.startswith("qformer."))
    assert "extra_query_tokens" not in found.weights
    later = read([GOLDEN / "umt_qformer.pth", GOLDEN / "stage3.pth"])
    assert torch.equal(later.weights["query_tokens"], read([GOLDEN / "stage3.pth"]).weights["query_tokens"])


def test_a_qformer_without_text_needs_no_text_weights_and_one_with_text_does():
    stage2 = read([GOLDEN / "stage2.pth"]).weights
    names = [name for name in container("stage3.pth").state_dict() if not name.startswith("language_model.")]
    assert missing(names, stage2, text=False) == []
    wanted = missing(names, stage2, text=True)
    assert "qformer.embeddings.word_embeddings.weight" in wanted
    assert len(wanted) == 2 + 4 * 6
    del stage2["projection.bias"]
    assert missing(names, stage2, text=False) == ["projection.bias"]


def test_lora_keeps_pefts_names():
    adapter = {
        "mistral_model.base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight": torch.ones(1),
        "phi_model.base_model.model.lm_head.lora_B.default.weight": torch.ones(1),
    }
    assert list(translate(adapter).adapter) == [
        "base_model.model.model.layers.0.mlp.up_proj.lora_A.default.weight", "base_model.model.lm_head.lora_B.default.weight"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["vision_encoder.encoder.blocks.0.attn.k_bias", "qformer.bert.pooler.dense.weight", "x"])
def test_a_name_that_is_not_known_is_an_error(name):
    with pytest.raises(ModelError, match="1 names are not VideoChat2's"):
        translate({name: torch.ones(1)})


def test_what_is_no_file_of_weights(tmp_path):
    for content in (b"", b"not a pickle"):
        path = tmp_path / "x.pth"
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no file of weights that can be read safely"):
            read([path])
    torch.save({"model": {"a": 1}}, path)
    with pytest.raises(ModelError, match="holds no weights"):
        read([path])


def test_nothing_in_a_file_is_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": Evil()}, tmp_path / "x.pth")
    with pytest.raises(ModelError, match="safely"):
        read([tmp_path / "x.pth"])
    assert not (tmp_path / "ran").exists()
