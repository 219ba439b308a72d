"""Costs by formula against PyTorch's own counting."""

import json

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from qtablate.errors import QtablateError
from qtablate.report.decoders import DECODERS, Decoder, read_decoder

TINY = Decoder("tiny", 2, 32, 4, 2, 48, 8)


def tiny() -> LlamaModel:
    config = LlamaConfig(
        vocab_size=10,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        attn_implementation="eager",
    )
    return LlamaModel(config)


@pytest.mark.parametrize("tokens", [7, 40])
def test_prefill_flops_are_those_that_pytorch_counts(tokens):
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        tiny()(inputs_embeds=torch.zeros(1, tokens, 32))
    assert counter.get_total_flops() == TINY.prefill_flops(tokens)


def test_cache_bytes_are_those_of_a_models_cache():
    with torch.inference_mode():
        cache = tiny().bfloat16()(inputs_embeds=torch.zeros(1, 9, 32, dtype=torch.bfloat16), use_cache=True).past_key_values
    kept = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers)
    assert TINY.cache_bytes(9) == 2 * kept


@pytest.mark.parametrize(("name", "billions"), [("7b", 6.48), ("13b", 12.69), ("mistral-7b", 6.98), ("phi-3-mini", 3.62)])
def test_known_models_have_their_published_number_of_weights(name, billions):
    """All weights of the layers: published sizes less the two vocabulary tables (6.74 - .26, 13.02 - .33, ...)."""
    assert DECODERS[name].weights / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_decoder_is_read_from_a_config_json(tmp_path):
    config = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 48,
    }
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"text_config": config}))
    for name in (folder, folder / "config.json"):
        found = read_decoder(str(name))
        assert (found.name, found.prefill_flops(5)) == ("mine", TINY.prefill_flops(5))
    del config["hidden_size"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(QtablateError, match="no 'hidden_size'"):
        read_decoder(str(folder))
    for text in ("[]", "{", '{"hidden_size": "x"}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(QtablateError, match="--cost-model"):
            read_decoder(str(folder))
    with pytest.raises(QtablateError, match="neither one of 7b, 13b"):
        read_decoder("8b")
