"""InstructBLIP-Video: transformers' own forward and generate are the reference."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    BertTokenizer,
    InstructBlipVideoConfig,
    InstructBlipVideoForConditionalGeneration,
    LlamaConfig,
    T5Config,
)

from qtablate.datatypes import VIDEO, Item, Sample
from qtablate.errors import ModelError
from qtablate.evaluate.score import score
from qtablate.model.directory import fingerprint, read_config, visual_tokens
from qtablate.model.encode import collate
from qtablate.model.initialize import initialize, normal
from qtablate.model.load import load
from qtablate.model.query_resize import resize_extra_queries
from qtablate.train.batches import stack_by_shape, text_loss_sum
from qtablate.train.batches import visual_tokens as tokens_of_rows
from qtablate.train.trainable import choose_trainable

BERT = Path(__file__).parent.parent / "golden" / "bert-base-uncased"
FRAMES, SIDE, WIDTH = 4, 16, 24


def tiny(vocabulary: int, text_config: object = None) -> InstructBlipVideoConfig:
    text = text_config or LlamaConfig(
        vocab_size=vocabulary + 1,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        tie_word_embeddings=False,
        max_position_embeddings=1024,
    )
    return InstructBlipVideoConfig(
        vision_config={
            "hidden_size": WIDTH,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE,
            "patch_size": 8,
        },
        qformer_config={
            "vocab_size": 150,
            "hidden_size": WIDTH,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "cross_attention_frequency": 2,
            "encoder_hidden_size": WIDTH,
        },
        text_config=text.to_dict(),
        num_query_tokens=3,
        video_token_index=vocabulary,
    )


@pytest.fixture
def directory(tokenizer, tmp_path) -> Path:
    """As transformers writes one: its own class, its processor's two tokenizers."""
    model = InstructBlipVideoForConditionalGeneration(tiny(len(tokenizer)))
    initialize(model, 0, "instructblip")
    model.query_tokens.data = normal(tuple(model.query_tokens.shape), 1.0, "instructblip", "base")
    path = tmp_path / "instructblip"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    BertTokenizer.from_pretrained(str(BERT)).save_pretrained(path / "qformer_tokenizer")
    (path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}))
    return path


def pixels(clips: int = 2) -> torch.Tensor:
    return torch.randn(clips, FRAMES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def test_forward_is_transformers_own(directory):
    model, encoder = load(str(directory))
    model.eval()
    sample = Sample("0", VIDEO, "a", (("what moves", "red left"),))
    item = Item("0", "task", "a", "what moves", ("red left", "right"), 0)
    asked = encoder.encode_item(item)
    assert asked.prefix == []
    text = encoder.qformer_inputs([sample])
    features = model.vision_features(pixels(1))
    visual = model.visual_tokens(features, text=text)
    assert visual.shape == (1, FRAMES * 3, WIDTH)
    assert model.count_visual_tokens(features[0]) == model.num_visual_tokens == FRAMES * 3

    whole = torch.tensor([[model.config.video_token_index] * FRAMES * 3 + asked.context + asked.options[0]])
    labels = torch.where(torch.arange(whole.shape[1]) < FRAMES * 3 + len(asked.context), -100, whole[0])[None]
    own = model(
        pixel_values=pixels(1),
        qformer_input_ids=text.input_ids,
        qformer_attention_mask=text.attention_mask,
        input_ids=whole,
        labels=labels,
        attention_mask=torch.ones_like(whole),
    )
    mine = collate(encoder, [sample], [FRAMES * 3], 64)
    count = int((labels != -100).sum())
    rows = tokens_of_rows(model, stack_by_shape([features[0]]), text=mine.qformer_inputs)
    assert float(text_loss_sum(model, mine, rows).detach()) / count == pytest.approx(float(own.loss.detach()), abs=1e-5)

    [[found]] = score(model, encoder, [item], lambda _: features[0].detach())
    logits = own.logits[0, FRAMES * 3 + len(asked.context) - 1 : -1].log_softmax(-1)
    total = float(logits.gather(1, torch.tensor(asked.options[0])[:, None]).sum().detach())
    assert found.log_likelihoods[0] == pytest.approx(total, abs=1e-5)


def test_generate_is_transformers_own(directory):
    model, encoder = load(str(directory))
    model.eval()
    text = encoder.qformer_inputs([Sample("0", VIDEO, "a", (("what moves", ""),))])
    prompt = encoder.encode_item(Item("0", "task", "a", "what moves", ("red",), 0)).context
    whole = torch.tensor([[model.config.video_token_index] * FRAMES * 3 + prompt])
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 1, "eos_token_id": None}
    own = model.generate(
        pixel_values=pixels(1),
        qformer_input_ids=text.input_ids,
        qformer_attention_mask=text.attention_mask,
        input_ids=whole,
        **settings,
    )
    with torch.inference_mode():
        visual = model.visual_tokens(model.vision_features(pixels(1)), text=text)
        embeds = torch.cat([visual, model.embed(torch.tensor([prompt]))], dim=1)
        mine = model.language_model.generate(inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2]), **settings)
    assert mine[0].tolist() == own[0, -12:].tolist()


def test_extra_query_tokens_join_every_frame(directory):
    model, encoder = load(str(directory))
    model.eval()
    text = encoder.qformer_inputs([Sample("0", VIDEO, "a", (("what moves", ""),))] * 2)
    features = model.vision_features(pixels())
    before = model.visual_tokens(features, text=text)
    assert str(resize_extra_queries(model, 2, "normal", 1)).startswith("extra query tokens: made rows 0-1")
    after = model.visual_tokens(features, text=text)
    assert after.shape == (2, FRAMES * 5, WIDTH)
    assert model.num_visual_tokens == model.count_visual_tokens(features[0]) == FRAMES * 5
    config = read_config(str(directory))
    assert visual_tokens(config, 2) == FRAMES * 5
    trained = choose_trainable(model, language_model=False)
    assert "extra_query_tokens" in trained
    assert "language_projection.weight" in trained
    assert "qformer.embeddings.word_embeddings.weight" in trained  # it reads text
    after.sum().backward()
    assert model.extra_query_tokens.grad.abs().sum() > 0
    resize_extra_queries(model, 0, "normal", 1)
    assert torch.equal(model.visual_tokens(features, text=text), before)


def test_a_clips_tokens_do_not_depend_on_its_batch(directory):
    model, encoder = load(str(directory))
    model.eval()
    samples = [Sample("0", VIDEO, "a", (("what moves", ""),)), Sample("1", VIDEO, "b", (("a man is running left", ""),))]
    features = model.vision_features(pixels())
    with torch.inference_mode():
        together = model.visual_tokens(features, text=encoder.qformer_inputs(samples))
        for row, sample in enumerate(samples):
            alone = model.visual_tokens(features[row : row + 1], text=encoder.qformer_inputs([sample]))
            assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_preprocessing_is_the_directorys(directory):
    model, encoder = load(str(directory))
    assert (model.config.image_mean, model.config.num_frames) == ([0.5, 0.5, 0.5], 4)
    assert encoder.qformer_tokenizer is not None


def test_a_saved_directory_with_extra_tokens_comes_back_bit_for_bit(directory, tokenizer, tmp_path):
    model, _ = load(str(directory))
    resize_extra_queries(model, 2, "normal", 1)
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    BertTokenizer.from_pretrained(str(BERT)).save_pretrained(tmp_path / "again" / "qformer_tokenizer")
    again, _ = load(str(tmp_path / "again"))
    assert again.config.extra_num_query_tokens == 2
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_a_language_model_with_an_encoder_is_refused(tokenizer, tmp_path):
    t5 = T5Config(vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    InstructBlipVideoForConditionalGeneration(tiny(len(tokenizer), t5)).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    with pytest.raises(ModelError, match="a t5, has an encoder"):
        load(str(tmp_path / "t5"))


def test_text_that_is_not_given_is_an_error(directory):
    model, _ = load(str(directory))
    with pytest.raises(ModelError, match="reads the question"):
        model.visual_tokens(model.vision_features(pixels(1)))


def test_the_published_name_of_the_family_is_the_same_family(directory):
    """Salesforce's directories say instructblip; transformers loads them with the class for videos too."""
    before = load(str(directory))[0].state_dict()
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"model_type": "instructblip"}))
    model, _ = load(str(directory))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"])
def test_other_pixels_are_another_model(directory, name):
    before = fingerprint(str(directory))
    (directory / name).write_text(json.dumps({"image_mean": [0.1, 0.5, 0.5], "image_std": [0.2, 0.2, 0.2]}))
    assert fingerprint(str(directory)) != before
