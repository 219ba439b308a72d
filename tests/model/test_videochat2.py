"""The container: shapes, positions, saving and loading."""

import copy
import json

import numpy as np
import pytest
import torch

from qtablate.errors import ModelError
from qtablate.model.directory import fingerprint, read_config
from qtablate.model.dropout import DropPath, has_dropout
from qtablate.model.load import load, reinitialize
from qtablate.model.videochat2 import VideoChat2Model, position_table


def pixels(frames: int = 4, side: int = 16) -> torch.Tensor:
    return torch.randn(2, frames, 3, side, side, generator=torch.Generator().manual_seed(1))


def test_shapes_for_video_image_and_other_resolutions(tiny):
    tiny.eval()
    assert tiny.vision_features(pixels()).shape == (2, 16, 24)
    assert tiny.vision_features(pixels(1)).shape == (2, 4, 24)
    assert tiny.vision_features(pixels(4, 32)).shape == (2, 64, 24)
    assert tiny.visual_tokens(tiny.vision_features(pixels())).shape == (2, 5, 24)


def test_sinusoid_table_equals_the_plain_formula(tiny):
    table = position_table(tiny.config, 2, 16, 16)[0].numpy()
    dim = 24
    for position in range(8):
        for i in range(dim):
            angle = position / np.power(10000, 2 * (i // 2) / dim)
            assert table[position, i] == pytest.approx(np.sin(angle) if i % 2 == 0 else np.cos(angle), abs=1e-6)


def test_positions_are_interpolated_in_time_and_an_image_takes_the_first_frame(tiny):
    two = position_table(tiny.config, 2, 16, 16).view(2, 4, 24)
    four = position_table(tiny.config, 4, 16, 16).view(4, 4, 24)
    assert torch.allclose(four[0], two[0])
    assert torch.allclose(four[1], 0.75 * two[0] + 0.25 * two[1], atol=1e-6)
    assert torch.allclose(position_table(tiny.config, 1, 16, 16)[0], two[0])


def test_features_depend_on_the_order_of_frames(tiny):
    tiny.eval()
    x = pixels()
    assert not torch.allclose(tiny.vision_features(x), tiny.vision_features(x.flip(1)), atol=1e-3)


def test_saved_and_loaded_directory_gives_identical_numbers(tiny, tiny_directory):
    tiny.eval()
    model, encoder = load(str(tiny_directory))
    model.eval()
    x = pixels()
    assert torch.equal(model.vision_features(x), tiny.vision_features(x))
    assert torch.equal(model.visual_tokens(model.vision_features(x)), tiny.visual_tokens(tiny.vision_features(x)))
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in tiny.state_dict().items())
    assert model.vision.layernorm.eps == 1e-12
    assert encoder.token_ids("red left") == encoder.tokenizer.encode("red left", add_special_tokens=False)


def test_gradient_checkpointable_modules_are_stock(tiny):
    kinds = {type(module).__module__.partition(".")[0] for module in tiny.modules()} - {"torch"}
    assert kinds == {"transformers", "qtablate"}
    assert [type(m).__name__ for m in tiny.modules() if type(m).__module__.startswith("qtablate")] == ["VideoChat2Model"]


def test_weights_that_do_not_fit_are_refused_by_name(tiny_directory):
    config = json.loads((tiny_directory / "config.json").read_text())
    config["extra_num_query_tokens"] = 0
    (tiny_directory / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="extra_query_tokens"):
        load(str(tiny_directory))


def test_other_families_and_folders_are_refused(tmp_path, tiny_directory):
    with pytest.raises(ModelError, match=r"missing config.json, model.safetensors, tokenizer.json"):
        read_config(str(tmp_path))
    config = json.loads((tiny_directory / "config.json").read_text())
    (tiny_directory / "config.json").write_text(json.dumps(config | {"model_type": "llava"}))
    with pytest.raises(ModelError, match=r"unknown model family 'llava'.*known: videochat2"):
        read_config(str(tiny_directory))


def test_fingerprint_changes_with_the_weights(tiny_directory):
    before = fingerprint(str(tiny_directory))
    data = bytearray((tiny_directory / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (tiny_directory / "model.safetensors").write_bytes(bytes(data))
    assert fingerprint(str(tiny_directory)) != before


def test_reinitialized_modules_follow_the_seed_and_the_rest_is_kept(tiny):
    tiny.config.fresh_parts = ["qformer", "query_tokens", "projection"]
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    reinitialize(tiny, 1)
    first = {name: value.clone() for name, value in tiny.state_dict().items()}
    reinitialize(tiny, 2)
    reinitialize(tiny, 1)
    again = tiny.state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    kept = [name for name in first if name.startswith(("vision.", "language_model.")) or name == "extra_query_tokens"]
    assert all(torch.equal(first[name], before[name]) for name in kept)
    assert not torch.equal(first["projection.weight"], before["projection.weight"])
    tiny.config.fresh_parts = ["vision"]
    with pytest.raises(ModelError, match="unknown module 'vision'"):
        reinitialize(tiny, 1)


def test_nano_loads_and_is_small(nano_directory):
    model, _ = load("nano")
    assert isinstance(model, VideoChat2Model)
    assert sum(file.stat().st_size for file in nano_directory.iterdir()) < 10e6
    assert model.config.num_query_tokens == 2


def test_logits_of_a_few_places_are_those_of_the_whole_forward_pass(tiny, monkeypatch):
    """Only the wanted places pass the vocabulary; a language model that is not known to allow this gives all."""
    embeds, at = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(1)), torch.zeros(2, 7, dtype=torch.bool)
    at[0, 2] = at[1, 5] = at[1, 6] = True
    whole = tiny.language_model(inputs_embeds=embeds, use_cache=False).logits[at]
    few, cache = tiny.logits_at(embeds, at, use_cache=True)
    assert torch.allclose(few, whole, atol=1e-6)
    assert cache.get_seq_length() == 7
    monkeypatch.setattr("qtablate.model.video_lm.PLAIN_HEAD_TYPES", ())
    picked, _ = tiny.logits_at(embeds, at, use_cache=False)
    assert torch.equal(picked, whole)


def test_drop_path_stands_before_every_residual_norm_and_rises_over_the_layers(tiny):
    """As in VideoChat2: after attention, cross-attention and both feed-forwards, from 0 in the first layer."""
    config = copy.deepcopy(tiny.config)
    config.qformer_config.num_hidden_layers = 3
    without = VideoChat2Model(config)
    config.qformer_drop_path = 0.3
    model = VideoChat2Model(config)
    rates = {name: part.p for name, part in model.qformer.named_modules() if isinstance(part, DropPath)}
    places = ("attention.output", "output", "output_query")
    assert rates == {f"encoder.layer.1.{place}.dropout.1": 0.15 for place in places} | {
        f"encoder.layer.2.{place}.dropout.1": pytest.approx(0.3) for place in (*places, "crossattention.output")
    }
    assert model.state_dict().keys() == without.state_dict().keys()
    assert (has_dropout(model), has_dropout(without)) == (True, False)


def test_drop_path_leaves_whole_samples_out_and_keeps_the_mean():
    torch.manual_seed(1)
    dropped = DropPath(0.25).train()(torch.ones(4000, 2, 3))
    assert dropped.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert torch.equal(dropped.amax((1, 2)), dropped.amin((1, 2)))
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.04)
    assert torch.equal(DropPath(0.25).eval()(torch.ones(9, 2)), torch.ones(9, 2))
