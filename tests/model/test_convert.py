"""qtablate convert: all golden files, and what it says of broken ones."""

from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from qtablate.errors import ModelError
from qtablate.model.convert import ConversionSettings, convert
from qtablate.model.directory import read_config
from qtablate.model.load import load, reinitialize
from qtablate.model.query_resize import resize_extra_queries
from qtablate.model.videochat2_checkpoint import merge_lora

GOLDEN = Path(__file__).parent.parent / "golden"
LLM, BERT = GOLDEN / "mistral-tiny", GOLDEN / "bert-base-uncased"
TINY = ConversionSettings(vision_heads=4, qformer_heads=4, lora_alpha=8)


def made(tmp_path: Path, *stages: str, bert: Path | None = BERT, settings: ConversionSettings = TINY) -> tuple[Path, list[str]]:
    out = tmp_path / "model"
    return out, convert([GOLDEN / f"{stage}.pth" for stage in stages], LLM, out, bert, settings)


@pytest.mark.parametrize(
    ("stages", "settings", "words"),
    [
        (
            ("umt_qformer",),
            ConversionSettings(4, 4, reinit_modules=("projection",)),
            ["reinitialized from each cell's seed: projection", "16 names"],
        ),
        (("stage2",), TINY, ["reads no text", "extra: 16 (rows 0-15 kept)"]),
        (("umt_qformer", "stage2"), TINY, ["reads text"]),
        (("stage3",), TINY, ["VideoChat2, mistral variant", "3 layers of 64, 4 heads"]),
        (("stage3_lora",), TINY, ["LoRA: rank 4, alpha 8, kept as adapter"]),
        (("stage2", "stage3_lora"), ConversionSettings(4, 4, lora_alpha=8, merge=True), ["LoRA: rank 4, alpha 8, merged"]),
    ],
)
def test_every_golden_file_is_converted_and_loaded(tmp_path, stages, settings, words):
    out, lines = made(tmp_path, *stages, settings=settings)
    for word in words:
        assert any(word in line for line in lines), (word, lines)
    model, encoder = load(str(out))
    reinitialize(model, 1)
    text = encoder.qformer_tokenizer.encode(["what"]) if encoder.qformer_tokenizer else None
    with torch.inference_mode():
        tokens = model.visual_tokens(model.vision_features(torch.randn(1, 8, 3, 224, 224)), text=text)
    assert tokens.shape == (1, model.num_queries, 64)
    assert tokens.isfinite().all()


def test_a_merged_adapter_computes_what_a_kept_one_does(tmp_path):
    _, first = made(tmp_path / "a", "stage3_lora")
    _, second = made(tmp_path / "b", "stage3_lora", settings=ConversionSettings(4, 4, lora_alpha=8, merge=True))
    assert first != second
    kept, merged = (load(str(tmp_path / name / "model"))[0].eval() for name in "ab")
    embeds = torch.randn(1, 9, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        one, other = (model.language_model(inputs_embeds=embeds).logits for model in (kept, merged))
    assert torch.allclose(one, other, atol=1e-4)
    bare = load(str(made(tmp_path / "c", "stage3_lora")[0]))[0]
    for name, parameter in bare.language_model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    with torch.inference_mode():
        assert not torch.allclose(bare.eval().language_model(inputs_embeds=embeds).logits, one, atol=1e-2)


def test_a_round_trip_is_bit_identical_and_keeps_what_is_in_no_state_dict(tmp_path):
    out, _ = made(tmp_path, "stage3")
    model, _ = load(str(out))
    model.save_pretrained(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "again" / name).write_bytes((out / name).read_bytes())
    (out / "qformer_tokenizer").rename(tmp_path / "again" / "qformer_tokenizer")
    again, _ = load(str(tmp_path / "again"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert again.vision.layernorm.eps == 1e-12
    shown = torch.randn(1, 8, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(model.vision_features(shown), again.vision_features(shown))


def test_weights_that_were_on_the_meta_device_give_the_same_features(tmp_path):
    """As Accelerate and transformers load large models: nothing real before the files are read."""
    out, _ = made(tmp_path, "stage3")
    model, _ = load(str(out))
    with torch.device("meta"):
        empty = type(model)(model.config)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    held = dict(model.state_dict())
    empty.load_state_dict(held, assign=True)
    shown = torch.randn(1, 8, 3, 224, 224)
    with torch.inference_mode():
        assert torch.equal(model.vision_features(shown), empty.eval().vision_features(shown))


def test_clips_of_another_size_have_their_positions_interpolated(tmp_path):
    """At 384 pixels: the 14 x 14 table, bicubic in space first, then linear in time, by numbers of its own here."""
    out, _ = made(tmp_path, "stage3", settings=ConversionSettings(4, 4, image_size=384))
    config = read_config(str(out))
    assert (config["vision_config"]["image_size"], config["position_image_size"]) == (384, 224)
    model, _ = load(str(out))
    rate = 10000 ** (-2 * (torch.arange(64) // 2) / 64).double()
    angle = torch.arange(4 * 14 * 14).double()[:, None] * rate
    table = torch.where(torch.arange(64) % 2 == 0, angle.sin(), angle.cos()).view(4, 14, 14, 64)
    spread = torch.nn.functional.interpolate(table.permute(0, 3, 1, 2), size=(24, 24), mode="bicubic")  # (T, D, 24, 24)
    first = spread[0].permute(1, 2, 0).reshape(576, 64)
    assert torch.allclose(model._positions(1, 384, 384)[0].double(), first, atol=1e-5)
    eight = model._positions(8, 384, 384)[0].double().view(8, 576, 64)
    second = 0.75 * spread[0] + 0.25 * spread[1]
    assert torch.allclose(eight[1], second.permute(1, 2, 0).reshape(576, 64), atol=1e-5)
    with torch.inference_mode():
        assert model.vision_features(torch.randn(1, 8, 3, 384, 384)).shape == (1, 8 * 576, 64)


def broken(tmp_path: Path, change) -> Path:
    state = torch.load(GOLDEN / "stage3.pth", weights_only=True)
    change(state["model"])
    path = tmp_path / "broken.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("mistral_proj.bias"), r"1 missing: projection\.bias"),
        (lambda s: s.pop("qformer.bert.encoder.layer.1.output.dense.weight"), r"1 missing: qformer\.encoder\.layer\.1\.output"),
        (lambda s: s.pop("query_tokens"), "missing: query_tokens; give the files of all stages together"),
        (lambda s: s.update(what=torch.ones(1)), r"1 names are not VideoChat2's: what"),
        (lambda s: s.update({"mistral_proj.weight": torch.ones(64, 47)}), r"weight is \(64, 47\), expected \(64, 48\)"),
        (lambda s: s.update(extra_query_tokens=torch.ones(1, 5, 47)), r"tokens is \(1, 5, 47\), expected \(1, 5, 48\)"),
        (lambda s: s.pop("mistral_proj.weight"), "no projection to a language model: give the files of stage 2 or 3"),
    ],
)
def test_broken_files_are_named_and_nothing_is_written(tmp_path, change, message):
    path = broken(tmp_path, change)
    with pytest.raises(ModelError, match=message):
        convert([path], LLM, tmp_path / "model", BERT, TINY)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["broken.pth"]


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model": {"query_tokens": Evil()}}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="no file of weights that can be read safely"):
        convert([tmp_path / "evil.pth"], LLM, tmp_path / "model", BERT, TINY)
    assert not (tmp_path / "ran").exists()


def test_what_is_given_beside_the_files_is_checked(tmp_path):
    stage3 = [GOLDEN / "stage3.pth"]
    with pytest.raises(ModelError, match="--bert DIR is needed"):
        convert(stage3, LLM, tmp_path / "m", None, TINY)
    with pytest.raises(ModelError, match=r"holds no BERT tokenizer"):
        convert(stage3, LLM, tmp_path / "m", tmp_path, TINY)
    with pytest.raises(ModelError, match="no language model's directory"):
        convert(stage3, tmp_path, tmp_path / "m", BERT, TINY)
    with pytest.raises(ModelError, match=r"--qformer-heads: the files do not tell it, and 48 is no multiple of 64"):
        convert(stage3, LLM, tmp_path / "m", BERT, ConversionSettings(vision_heads=4))
    llama = LlamaForCausalLM(LlamaConfig(hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64))
    llama.save_pretrained(tmp_path / "llama")
    with pytest.raises(ModelError, match=r"holds a llama, and stage3\.pth is of the mistral variant"):
        convert(stage3, tmp_path / "llama", tmp_path / "m", BERT, TINY)
    assert not (tmp_path / "m").exists()
    out, _ = made(tmp_path, "stage3")
    before = sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir())
    with pytest.raises(ModelError, match="exists already"):
        made(tmp_path, "stage3")
    assert sorted((file.name, file.stat().st_mtime_ns) for file in out.iterdir()) == before


def test_extra_tokens_of_a_checkpoint_at_other_numbers(tmp_path):
    out, _ = made(tmp_path, "stage3")
    rows = torch.load(GOLDEN / "stage3.pth", weights_only=True)["model"]["extra_query_tokens"].float()
    for wanted in (0, 8, 16, 24):
        model, _ = load(str(out))
        said = str(resize_extra_queries(model, wanted, "normal", 1))
        if wanted:
            assert torch.equal(model.extra_query_tokens[:, :16], rows[:, :wanted])
        assert ("cut" in said, "made" in said) == (wanted < 16, wanted > 16)


def test_files_in_another_order_than_their_stages_are_refused(tmp_path):
    for stages in (("stage3_lora", "stage2"), ("stage3", "umt_qformer"), ("stage3_lora", "umt_qformer")):
        with pytest.raises(ModelError, match=f"{stages[1]}.pth is of an earlier stage than the file before it"):
            made(tmp_path, *stages)
    _, lines = made(tmp_path, "umt_qformer", "stage2", "stage3_lora")
    assert lines[0].startswith("umt_qformer.pth: 195 names, 0 of them instead") or "names, 0 of them instead" in lines[0]
    assert "names, 0 of them" not in lines[2]


def test_a_merged_matrix_keeps_its_precision_and_the_others_stay_the_same_tensors():
    language = {"model.a.weight": torch.ones(3, 2, dtype=torch.bfloat16), "model.b.weight": torch.ones(2)}
    name = "base_model.model.model.a.lora_{}.default.weight"
    adapter = {name.format("A"): torch.ones(1, 2), name.format("B"): torch.full((3, 1), 0.5)}
    out = merge_lora(language, adapter, 2.0)
    assert torch.equal(out["model.a.weight"], torch.full((3, 2), 2.0, dtype=torch.bfloat16))
    assert out["model.b.weight"] is language["model.b.weight"]
    with pytest.raises(ModelError, match=r"makes \(3, 5\), model\.a\.weight is \(3, 2\)"):
        merge_lora(language, adapter | {name.format("A"): torch.ones(1, 5)}, 2.0)
