"""qtablate assemble: towers of pictures and of clips, language models of any kind, and what it refuses."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
    VideoMAEConfig,
    VideoMAEModel,
    ViTConfig,
    ViTModel,
)

from qtablate.datatypes import IMAGE, VIDEO, Item, Sample
from qtablate.errors import ModelError
from qtablate.evaluate.score import score
from qtablate.model.assemble import ConnectorConfig, assemble
from qtablate.model.directory import read_config
from qtablate.model.initialize import initialize
from qtablate.model.load import load, reinitialize
from qtablate.model.query_resize import resize_extra_queries
from qtablate.train.batches import loss_sum, make_micro_batch
from qtablate.train.trainable import choose_trainable

SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SHOWN = {"image_size": 16, "patch_size": 8}
BRIDGE = ConnectorConfig(num_query_tokens=3, layers=2, width=64, num_frames=4)
CLIP_TEXT = {**SIZES, "vocab_size": 10, "max_position_embeddings": 8, "eos_token_id": 9}
TOWERS = {
    "vit": (lambda: ViTModel(ViTConfig(**SIZES, **SHOWN)), 5),
    "clip": (lambda: CLIPModel(CLIPConfig(vision_config={**SIZES, **SHOWN}, text_config=CLIP_TEXT)), 5),
    "siglip": (lambda: SiglipVisionModel(SiglipVisionConfig(**SIZES, **SHOWN)), 4),
    "videomae": (lambda: VideoMAEModel(VideoMAEConfig(**SIZES, **SHOWN, num_frames=4, use_mean_pooling=False)), 2),
}
"""And how many features one frame gives: its patches and the class token, half its patches where two frames are one tube."""


@pytest.fixture
def llm(tokenizer, tmp_path) -> Path:
    config = LlamaConfig(vocab_size=len(tokenizer), **SIZES, tie_word_embeddings=True, max_position_embeddings=1024)
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llm")
    tokenizer.save_pretrained(tmp_path / "llm")
    return tmp_path / "llm"


def tower(name: str, tmp_path: Path) -> Path:
    model = TOWERS[name][0]()
    initialize(model, 0, name)
    model.save_pretrained(tmp_path / name)
    return tmp_path / name


def pixels(frames: int = 4) -> torch.Tensor:
    return torch.randn(2, frames, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", TOWERS)
def test_a_tower_of_each_kind(name, llm, tmp_path):
    out = tmp_path / "model"
    lines = assemble(tower(name, tmp_path), llm, out, BRIDGE)
    assert any("4 frames of 16 px" in line for line in lines)
    model, encoder = load(str(out))
    model.eval()
    assert model.config.features_a_frame == TOWERS[name][1]
    assert reinitialize(model, 3) == ["frame_positions", "vision_norm", "qformer", "projection", "query_tokens"]
    resize_extra_queries(model, 2, "normal", 3)
    with torch.inference_mode():
        features, still = model.vision_features(pixels()), model.vision_features(pixels(1))
        assert model.visual_tokens(features).shape == model.visual_tokens(still).shape == (2, 5, 24)
        turned = model.vision_features(pixels().flip(1))
        assert not torch.allclose(model.visual_tokens(features), model.visual_tokens(turned), atol=1e-4)  # time is seen
    samples = [
        Sample("0", VIDEO, "v", (("what moves?", "red left"),)),
        Sample("1", IMAGE, "i", (("what?", "red"), ("what?", "left"))),
    ]
    shown = {"v": features[0].clone(), "i": still[0].clone()}
    trained = choose_trainable(model, language_model=False)
    loss_sum(model, make_micro_batch(samples, shown.__getitem__, encoder, model.count_visual_tokens, 64)).backward()
    without = {name for name, parameter in trained.items() if parameter.grad is None}
    assert without == ({"frame_positions.weight"} if name == "videomae" else set())
    items = [
        Item("a", "t", "v", "what moves?", ("red left", "right"), 0),
        Item("b", "t", "i", "what?", ("red", "a b"), 0, IMAGE),
    ]
    found = [one for group in score(model, encoder, items, shown.__getitem__) for one in group]
    assert [len(one.log_likelihoods) for one in found] == [2, 2]


def test_saved_and_loaded_it_is_the_same_to_the_last_bit(llm, tmp_path):
    assemble(tower("videomae", tmp_path), llm, tmp_path / "model", BRIDGE)
    model, _ = load(str(tmp_path / "model"))
    model.save_pretrained(tmp_path / "again")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "again" / name).write_bytes((tmp_path / "model" / name).read_bytes())
    again, _ = load(str(tmp_path / "again"))
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    with torch.inference_mode():
        assert torch.equal(model.eval().vision_features(pixels()), again.eval().vision_features(pixels()))


def test_its_vision_features_are_the_towers_own(llm, tmp_path):
    folder = tower("vit", tmp_path)
    assemble(folder, llm, tmp_path / "model", BRIDGE)
    model, _ = load(str(tmp_path / "model"))
    own = ViTModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        features = model.eval().vision_features(pixels()).view(2, 4, 5, 24)
        for frame in range(4):
            assert torch.allclose(features[:, frame], own(pixels()[:, frame]).last_hidden_state, atol=1e-6)


def test_a_language_model_of_another_kind(tokenizer, tmp_path):
    """Its logits are taken whole, since nothing is known of its head."""
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=24, n_layer=2, n_head=2, n_positions=128)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    assemble(tower("vit", tmp_path), tmp_path / "gpt2", tmp_path / "model", BRIDGE)
    model, encoder = load(str(tmp_path / "model"))
    items = [Item("a", "t", "v", "what moves?", ("red left", "right"), 0)]
    with torch.inference_mode():
        shown = model.vision_features(pixels())[0]
    [[found]] = score(model, encoder, items, lambda _: shown)
    asked = encoder.encode_item(items[0])
    with torch.inference_mode():
        visual = model.visual_tokens(shown[None])
        told = asked.context + asked.options[0]
        embeds = torch.cat([model.embed(torch.tensor([asked.prefix])), visual, model.embed(torch.tensor([told]))], dim=1)
        logits = model.language_model(inputs_embeds=embeds).logits[0].log_softmax(-1)
    first = embeds.shape[1] - len(asked.options[0])
    total = sum(float(logits[first + n - 1, token]) for n, token in enumerate(asked.options[0]))
    assert found.log_likelihoods[0] == pytest.approx(total, abs=1e-4)


def test_what_cannot_be_used_is_said_and_nothing_is_written(llm, tmp_path):
    vit, out = tower("vit", tmp_path), tmp_path / "model"
    for vision, language, bridge, message in (
        (tmp_path, llm, BRIDGE, "--vision: .* is no transformers directory"),
        (vit, tmp_path, BRIDGE, "--llm: .* is neither a GGUF file nor"),
        (llm, llm, BRIDGE, "--vision: .*"),
        (vit, llm, ConnectorConfig(width=100), "--qformer-width: 100 is no multiple of 64"),
        (vit, llm, ConnectorConfig(conversation="x"), "--conversation: unknown 'x'; known: nano, videochat2_mistral"),
    ):
        with pytest.raises(ModelError, match=message):
            assemble(vision, language, out, bridge)
        assert not out.exists()
    assemble(vit, llm, out, BRIDGE)
    model, _ = load(str(out))
    with pytest.raises(ModelError, match="frames are 32 x 32 pixels, this vision tower takes 16"):
        model.vision_features(torch.randn(1, 4, 3, 32, 32))


def test_gguf_needs_its_package(tmp_path, monkeypatch):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr("qtablate.model.assemble.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"pip install 'qtablate\[gguf\]'"):
        assemble(tower("vit", tmp_path), tmp_path / "x.gguf", tmp_path / "model", BRIDGE)


@pytest.mark.skipif(importlib.util.find_spec("gguf") is None, reason="reads a GGUF file")
def test_a_file_that_only_has_its_name(tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    with pytest.raises(ModelError, match=r"--llm: .*x\.gguf cannot be read"):
        assemble(tower("vit", tmp_path), tmp_path / "x.gguf", tmp_path / "model", BRIDGE)


def test_a_towers_own_pixels_are_taken_wherever_they_are_said(llm, tmp_path):
    """transformers 5 nests them in processor_config.json; without any, CLIP's are taken, and that is said."""
    folder = tower("siglip", tmp_path)
    lines = assemble(folder, llm, tmp_path / "without", BRIDGE)
    assert any("CLIP's mean, none was found" in line for line in lines)
    (folder / "processor_config.json").write_text(
        json.dumps({"image_processor": {"image_mean": [0.5] * 3, "image_std": [0.4] * 3}})
    )
    assemble(folder, llm, tmp_path / "with", BRIDGE)
    config = read_config(str(tmp_path / "with"))
    assert (config["image_mean"], config["image_std"]) == ([0.5] * 3, [0.4] * 3)


def test_a_tokenizer_without_what_the_conversation_needs_is_refused(llm, tmp_path):
    config = json.loads((llm / "tokenizer_config.json").read_text())
    (llm / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": None}))
    with pytest.raises(ModelError, match="--conversation plain: the tokenizer has no bos token"):
        assemble(tower("vit", tmp_path), llm, tmp_path / "model", BRIDGE)


def spoil(path: Path, content: str) -> None:
    path.write_text(content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("llm/model.safetensors", "x", "--llm: .* cannot be read: SafetensorError"),
        ("llm/config.json", "x", "--llm: .* cannot be read"),
        ("llm/tokenizer.json", "{}", "cannot be read"),
        ("vit/config.json", "x", "--vision: .* cannot be read"),
        ("vit/model.safetensors", "x", "--vision: .* cannot be read: SafetensorError"),
        ("vit/preprocessor_config.json", "[", "preprocessor_config.json cannot be read: JSONDecodeError"),
        ("vit/preprocessor_config.json", "[]", "preprocessor_config.json cannot be read: AttributeError"),
    ],
)
def test_broken_files_are_one_message(file, content, message, llm, tmp_path):
    vit = tower("vit", tmp_path)
    spoil(tmp_path / file, content)
    with pytest.raises(ModelError, match=message):
        assemble(vit, llm, tmp_path / "model", BRIDGE)
    assert not (tmp_path / "model").exists()


def test_an_older_tokenizers_file_becomes_a_tokenizer_json(tmp_path):
    """As Vicuna's directories have it: a sentencepiece model and no tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    llm = tmp_path / "llm"
    LlamaForCausalLM(LlamaConfig(vocab_size=60, **SIZES, max_position_embeddings=1024)).save_pretrained(llm)
    with (llm / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(["a man is running left", "the red cube moves right", "what is it"] * 20),
            model_writer=file,
            vocab_size=60,
            hard_vocab_limit=False,
            minloglevel=2,
            byte_fallback=False,
            model_type="bpe",
        )
    (llm / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})
    )
    assemble(tower("vit", tmp_path), llm, tmp_path / "model", BRIDGE)
    assert (tmp_path / "model" / "tokenizer.json").is_file()
    _, encoder = load(str(tmp_path / "model"))
    assert encoder.decode(encoder.token_ids("the red cube moves")) == "the red cube moves"
